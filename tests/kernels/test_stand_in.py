"""The stand-in finds what it is there to find, and refuses what CuPy refuses."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests import stand_in
from tests.stand_in import Fault

pytestmark = pytest.mark.skipif(bool(stand_in.missing()), reason=stand_in.missing() or "-")

KERNELS = r"""
#include <cuda_fp16.h>

extern "C" __global__ void copy(const float* from, float* to, int count, int behind) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) to[i + behind] = from[i];
}

extern "C" __global__ void alone(const float* __restrict__ from, float* __restrict__ to) { to[threadIdx.x] = from[0]; }

extern "C" __global__ void reverse(int* numbers, int barriers) {
  __shared__ int kept[64];
  kept[threadIdx.x] = numbers[threadIdx.x];
  if (barriers) __syncthreads();
  numbers[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void half_barrier(int* numbers) {
  if (threadIdx.x < 32) __syncthreads();
  numbers[threadIdx.x] = 1;
}

extern "C" __global__ void two_barriers(int* numbers) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  numbers[threadIdx.x] = 1;
}

extern "C" __global__ void half_warp(int* numbers) {
  if (threadIdx.x < 16) numbers[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

extern "C" __global__ void warp_words(int* numbers) {
  const int lane = threadIdx.x;
  numbers[lane] = __shfl_xor_sync(0xffffffffu, lane, 5);
  numbers[32 + lane] = __shfl_down_sync(0xffffffffu, lane, 4, 16);
  numbers[64 + lane] = __shfl_up_sync(0xffffffffu, lane, 3);
  numbers[96 + lane] = __shfl_sync(0xffffffffu, lane * lane, lane / 2);
  numbers[128 + lane] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
  numbers[160 + lane] = __any_sync(0xffffffffu, lane == 7) + 2 * __all_sync(0xffffffffu, lane < 31);
}

extern "C" __global__ void block_words(int* numbers) {
  numbers[3 * threadIdx.x] = __syncthreads_count(threadIdx.x % 5 == 0);
  numbers[3 * threadIdx.x + 1] = __syncthreads_or(threadIdx.x == 3);
  numbers[3 * threadIdx.x + 2] = __syncthreads_and(threadIdx.x != 3);
}

extern "C" __global__ void dynamic(float* numbers, int behind) {
  DYNAMIC_SHARED(float, kept);
  kept[threadIdx.x + behind] = numbers[threadIdx.x];
  __syncthreads();
  numbers[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x + behind];
}

extern "C" __global__ void wild(float* numbers) { numbers[(size_t)1 << 45] = 1; }

extern "C" __global__ void divide(int* numbers) { numbers[0] = 5 / numbers[0]; }

extern "C" __global__ void widths(int* out, int a, long long b, float c, double d, unsigned char e, half f) {
  out[0] = a + (int)b + (int)c + (int)d + e + (int)(float)f;
}

extern "C" __global__ void __launch_bounds__(64) narrow(int* out) { out[threadIdx.x] = 1; }

extern "C" __global__ void halves(const float* from, half* to, float* back, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    to[i] = __float2half(from[i]);
    back[i] = __half2float(to[i]);
  }
}

extern "C" __global__ void count_up(int* total, int* largest, const int* numbers) {
  atomicAdd(total, 1);
  atomicMax(largest, numbers[threadIdx.x]);
}

extern "C" __global__ void mma_half(const half* a, const half* b, float* d) {  // one 16x16 by 16x8 product
  __shared__ __align__(16) half rows[16 * 16];
  for (int i = threadIdx.x; i < 256; i += 32) rows[i] = a[i];
  __syncwarp();
  unsigned ra[4], rb[2];
  ldmatrix_x4(ra, &rows[(threadIdx.x % 16) * 16 + threadIdx.x / 16 * 8]);
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  for (int i = 0; i < 2; ++i)
    rb[i] = __half_as_ushort(b[(2 * t + 8 * i) * 8 + g]) +
            65536u * __half_as_ushort(b[(2 * t + 8 * i + 1) * 8 + g]);
  float rd[4];
  for (int i = 0; i < 4; ++i) rd[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  mma_m16n8k16_f16(rd, ra, rb);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = rd[i];
}

extern "C" __global__ void mma_tf32(const float* a, const float* b, float* d) {  // one 16x8 by 8x8 product
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned ra[4], rb[2];
  for (int i = 0; i < 4; ++i) ra[i] = to_tf32(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
  for (int i = 0; i < 2; ++i) rb[i] = to_tf32(b[(t + 4 * i) * 8 + g]);
  float rd[4] = {0, 0, 0, 0};
  mma_m16n8k8_tf32(rd, ra, rb);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = rd[i];
}

extern "C" __global__ void transposed(const unsigned short* from, unsigned short* to) {  // four 8x8 matrices
  __shared__ __align__(16) unsigned short rows[256];
  for (int i = threadIdx.x; i < 256; i += 32) rows[i] = from[i];
  __syncwarp();
  unsigned r[4];
  ldmatrix_x4_trans(r, &rows[threadIdx.x * 8]);
  for (int i = 0; i < 4; ++i) ((unsigned*)to)[i * 32 + threadIdx.x] = r[i];
}

extern "C" __global__ void asynchronous(const float* from, float* to, int waits) {
  __shared__ __align__(16) float kept[128];
  cp_async_16(&kept[threadIdx.x * 4], from + threadIdx.x * 4, threadIdx.x % 2 == 0);
  cp_async_commit();
  if (waits) cp_async_wait<0>();
  for (int i = 0; i < 4; ++i) to[threadIdx.x * 4 + i] = kept[threadIdx.x * 4 + i];
}
"""


@pytest.fixture
def cupy():
    with stand_in.stand_in() as module:
        yield module


@pytest.fixture
def run(cupy):
    """Start a kernel of `KERNELS`: run(name, threads, *args)."""
    module = cupy.RawModule(code=KERNELS, options=("--std=c++17",))
    return lambda name, threads, *args, **options: module.get_function(name)((1,), (threads,), args, **options)


# -- threads ----------------------------------------------------------------------------------------


def test_missing_barrier_changes_the_result(cupy, run):
    numbers = cupy.arange(64, dtype=np.int32)
    run("reverse", 64, numbers, np.int32(1))
    assert (numbers.get() == np.arange(64)[::-1]).all()
    run("reverse", 64, numbers, np.int32(0))
    assert (numbers.get() != np.arange(64)).any()


def test_barrier_that_half_the_block_reaches_is_an_error(cupy, run):
    with pytest.raises(Fault, match=r"half_barrier: block \(0, 0, 0\): deadlock: 32 of 64 threads.*__syncthreads"):
        run("half_barrier", 64, cupy.zeros(64, np.int32))


def test_threads_that_meet_at_different_barriers_are_an_error(cupy, run):
    with pytest.raises(Fault, match=r"__syncthreads in line \d+ while others of its block are at __syncthreads"):
        run("two_barriers", 64, cupy.zeros(64, np.int32))


def test_warp_primitive_that_half_the_warp_reaches_is_an_error(cupy, run):
    with pytest.raises(Fault, match=r"16 of 32 threads.*wait at __shfl_xor_sync in line \d+; 16 have ended"):
        run("half_warp", 32, cupy.zeros(32, np.int32))
    with pytest.raises(Fault, match="names lanes that the block of 16 threads does not have"):
        run("half_warp", 16, cupy.zeros(32, np.int32))


def test_warp_words_do_what_the_manual_says(cupy, run):
    numbers = cupy.zeros(192, np.int32)
    run("warp_words", 32, numbers)
    lane = np.arange(32)
    down = np.where(lane % 16 + 4 < 16, lane + 4, lane)
    expected = [lane ^ 5, down, np.where(lane >= 3, lane - 3, lane), (lane // 2) ** 2,
                np.full(32, sum(1 << i for i in range(0, 32, 3))), np.full(32, 1)]
    assert (numbers.get().reshape(6, 32).astype(np.uint32) == np.array(expected).astype(np.uint32)).all()


def test_block_words_do_what_the_manual_says(cupy, run):
    numbers = cupy.zeros(3 * 96, np.int32)
    run("block_words", 96, numbers)
    assert (numbers.get().reshape(96, 3) == [20, 1, 0]).all()


def test_other_processors_change_stacks_through_the_system(cupy):
    module = cupy.RawModule(code=KERNELS, options=("--std=c++17", "-DSTAND_IN_UCONTEXT"))
    numbers = cupy.arange(64, dtype=np.int32)
    module.get_function("reverse")((1,), (64,), (numbers, np.int32(1)))
    assert (numbers.get() == np.arange(64)[::-1]).all()
    with pytest.raises(Fault, match="deadlock: 32 of 64 threads"):
        module.get_function("half_barrier")((1,), (64,), (numbers,))


def test_integer_atomics_meet_every_thread(cupy, run):
    total, largest = cupy.zeros(1, np.int32), cupy.zeros(1, np.int32)
    run("count_up", 100, total, largest, cupy.asarray(np.arange(100, dtype=np.int32) * 7 % 101))
    assert total.item() == 100 and largest.item() == 100


# -- memory -----------------------------------------------------------------------------------------


def test_write_behind_an_array_is_an_error(cupy, run):
    numbers, out = cupy.ones(128, np.float32), cupy.empty(128, np.float32)
    run("copy", 128, numbers, out, np.int32(128), np.int32(0))
    assert (out.get() == 1).all()
    with pytest.raises(Fault, match="copy: wrote outside of an array: 20 bytes from 0 bytes behind an allocation"):
        run("copy", 128, numbers, out, np.int32(128), np.int32(5))
    with pytest.raises(Fault, match="copy: wrote outside of an array: 12 bytes from 0 bytes before an allocation"):
        run("copy", 128, numbers, out, np.int32(128), np.int32(-3))


def test_write_far_away_is_an_error_and_no_crash(cupy, run):
    with pytest.raises(Fault, match=r"wild: block \(0, 0, 0\), thread \(0, 0, 0\): accessed address"):
        run("wild", 1, cupy.zeros(1, np.float32))
    with pytest.raises(Fault, match="divided an integer by zero"):
        run("divide", 1, cupy.zeros(1, np.int32))


def test_write_behind_dynamic_shared_memory_is_an_error(cupy, run):
    numbers = cupy.arange(64, dtype=np.float32)
    run("dynamic", 64, numbers, np.int32(0), shared_mem=256)
    assert (numbers.get() == np.arange(64)[::-1]).all()
    with pytest.raises(Fault, match="behind the 256 bytes of dynamic shared memory"):
        run("dynamic", 64, numbers, np.int32(1), shared_mem=256)


def test_what_was_not_written_is_not_a_number(cupy):
    assert np.isnan(cupy.empty((3, 5), np.float32).get()).all()
    assert (cupy.empty(7, np.int32).get() == -1).all()


def test_overlap_of_restricted_pointers_is_an_error(cupy, run):
    numbers = cupy.ones(64, np.float32)
    with pytest.raises(Fault, match="from and to overlap"):
        run("alone", 4, numbers[:8], numbers[4:])
    run("alone", 4, numbers[:8], numbers[8:])


def test_reading_before_an_asynchronous_copy_arrived_shows(cupy, run):
    numbers, out = cupy.arange(128, dtype=np.float32), cupy.empty(128, np.float32)
    run("asynchronous", 32, numbers, out, np.int32(1))
    expected = np.arange(128, dtype=np.float32).reshape(32, 4)
    expected[1::2] = 0
    assert (out.get() == expected.ravel()).all()
    run("asynchronous", 32, numbers, out, np.int32(0))
    assert np.isnan(out.get()).all()


# -- launches ---------------------------------------------------------------------------------------


def test_arguments_of_other_widths_are_errors(cupy, run):
    out = cupy.zeros(1, np.int32)
    good = (np.int32(1), np.int64(2), np.float32(3), np.float64(4), np.uint8(5), np.float16(6))
    run("widths", 1, out, *good)
    assert out.item() == 21
    for i, wrong in enumerate((1, np.int32(2), 3.0, np.float32(4), np.int32(5), np.int16(6))):
        with pytest.raises(Fault, match="parameter [a-f]: expected"):
            run("widths", 1, out, *good[:i], wrong, *good[i + 1:])
    with pytest.raises(Fault, match="7 parameters, 2 arguments"):
        run("widths", 1, out, np.int32(1))
    with pytest.raises(TypeError, match="Unsupported type"):
        run("narrow", 1, np.zeros(1, np.int32))
    with pytest.raises(Fault, match="parameter out: expected an array"):
        run("narrow", 1, np.int64(0))


def test_launch_limits_are_cudas(cupy, run):
    out = cupy.zeros(2048, np.int32)
    error = cupy.cuda.driver.CUDADriverError
    module = cupy.RawModule(code=KERNELS)
    reverse = module.get_function("reverse")
    for grid, block in (((0,), (1,)), ((1,), (1025,)), ((1,), (64, 32)), ((1, 65536), (1,)), ((1,), (1, 1, 65))):
        with pytest.raises(error):
            reverse(grid, block, (out, np.int32(0)))
    with pytest.raises(error, match="too many resources"):
        run("narrow", 65, out)
    numbers = cupy.zeros(8, np.float32)
    dynamic = module.get_function("dynamic")
    with pytest.raises(error):
        dynamic((1,), (8,), (numbers, np.int32(0)), shared_mem=50_000)
    dynamic.max_dynamic_shared_size_bytes = 50_000
    dynamic((1,), (8,), (numbers, np.int32(0)), shared_mem=50_000)
    with pytest.raises(error):
        dynamic.max_dynamic_shared_size_bytes = 228 * 1024
    with pytest.raises(error, match="named symbol not found"):
        module.get_function("nothing")


def test_text_with_a_warning_does_not_compile(cupy):
    text = 'extern "C" __global__ void f(int* x, int unused) { x[0] = 1; }'
    with pytest.raises(cupy.cuda.compiler.CompileException, match="unused"):
        cupy.RawModule(code=text).get_function("f")


def test_two_launches_take_different_orders(cupy):
    text = ('extern "C" __global__ void f(int* next, int* order) {'
            "  order[atomicAdd(next, 1)] = blockIdx.x * 64 + threadIdx.x; }")
    kernel = cupy.RawModule(code=text).get_function("f")
    seen = []
    for _ in range(2):
        next_one, order = cupy.zeros(1, np.int32), cupy.empty(5 * 64, np.int32)
        kernel((5,), (64,), (next_one, order))
        seen.append(order.get())
        assert (np.sort(seen[-1]) == np.arange(320)).all()
    assert (seen[0] != seen[1]).any() and (seen[0] != np.arange(320)).any()


# -- numbers ----------------------------------------------------------------------------------------


def test_half_rounds_as_numpy_does(cupy, run, rng):
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    edges = np.array([0, -0.0, 65504, 65519.99, 65520, 1e9, np.inf, -np.inf, 2**-24, 2**-25, 3 * 2**-25, 2**-14, 6.1e-5,
                      1 + 2**-11, 1 + 3 * 2**-11], np.float32)
    values = np.concatenate([edges, bits.view(np.float32), rng.normal(size=10_000).astype(np.float32)])
    values = values[~np.isnan(values)]
    to, back = cupy.empty(values.size, np.float16), cupy.empty(values.size, np.float32)
    run("halves", 32, cupy.asarray(values), to, back, np.int32(values.size))
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    assert (to.get().view(np.uint16) == expected.view(np.uint16)).all()
    assert (back.get() == expected.astype(np.float32)).all()


def test_half_product_equals_the_matrix_product(cupy, run, rng):
    a, b = rng.normal(size=(16, 16)).astype(np.float16), rng.normal(size=(16, 8)).astype(np.float16)
    c = rng.normal(size=(16, 8)).astype(np.float32)
    d = cupy.asarray(c)
    run("mma_half", 32, cupy.asarray(a), cupy.asarray(b), d)
    expected = c + a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(d.get(), expected, rtol=0, atol=1e-6)


def test_tf32_product_equals_the_product_of_rounded_matrices(cupy, run, rng):
    a, b = rng.normal(size=(16, 8)).astype(np.float32), rng.normal(size=(8, 8)).astype(np.float32)
    d = cupy.empty((16, 8), np.float32)
    run("mma_tf32", 32, cupy.asarray(a), cupy.asarray(b), d)

    def rounded(x):  # 11 significant bits, ties away from zero
        mantissa, exponent = np.frexp(x.astype(np.float64))
        return np.sign(mantissa) * np.floor(np.abs(mantissa) * 2**11 + 0.5) / 2**11 * 2.0**exponent

    np.testing.assert_allclose(d.get(), rounded(a) @ rounded(b), rtol=0, atol=1e-6)
    assert np.abs(d.get() - a.astype(np.float64) @ b).max() > 1e-5


def test_transposing_load_transposes_each_matrix(cupy, run):
    matrices = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    out = cupy.empty((4, 8, 8), np.uint16)
    run("transposed", 32, cupy.asarray(matrices), out)
    assert (out.get() == matrices.transpose(0, 2, 1)).all()


# -- the module -------------------------------------------------------------------------------------


def test_numpy_and_device_arrays_do_not_mix(cupy):
    a, b = cupy.ones(3, np.float32), np.ones(3, np.float32)
    for mix in (lambda: a + b, lambda: b + a, lambda: cupy.maximum(a, b), lambda: np.asarray(a), lambda: np.array(a),
                lambda: cupy.concatenate([a, b]), lambda: np.concatenate([a, b]), lambda: a[b > 0],
                lambda: cupy.where(a > 0, a, b), lambda: a.__iadd__(b), lambda: cupy.sum(b),
                lambda: np.add(a, 1, out=b)):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(TypeError):
        a[:] = b
    assert isinstance(np.exp(a), cupy.ndarray) and isinstance(np.float32(2) * a, cupy.ndarray)
    assert isinstance(np.concatenate([a, a]), cupy.ndarray)


def test_words_that_cupy_lacks_are_missing(cupy):
    for name in ("errstate", "insert", "block", "nditer", "vecdot", "frompyfunc"):
        assert not hasattr(cupy, name), name
    with pytest.raises(TypeError, match="unexpected keyword argument 'initial'"):
        cupy.max(cupy.ones(3), initial=5)
    with pytest.raises(TypeError):
        np.geomspace(cupy.ones(3), 5)


def test_results_stay_on_the_device_and_views_share_memory(cupy):
    x = cupy.asarray(np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5))
    assert isinstance(x.sum(), cupy.ndarray) and x.sum().shape == () and float(x.sum()) == 435
    assert isinstance(x[1, 2, 3], cupy.ndarray) and int(x.argmax()) == 29
    x[1, 2, 3] = 100
    x.reshape(6, 5)[0, 0] = 50
    x.transpose(2, 0, 1)[4, 1, 2] += 1
    assert x.max().item() == 100 and x.get()[0, 0, 0] == 50 and x.get()[1, 2, 4] == 30
    assert x.ravel().data.ptr == x.data.ptr != x.copy().data.ptr
    assert [int(n) for n in cupy.split(cupy.arange(4), 2)[1]] == [2, 3]
    with pytest.raises(TypeError):
        range(x.argmax())


def test_gemm_by_columns(cupy, rng):
    from cupy_backends.cuda.libs import cublas

    a, b = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(5, 7)).astype(np.float32)
    x, y, z = cupy.asarray(np.asfortranarray(a)), cupy.asarray(np.asfortranarray(b)), cupy.empty((7, 3), np.float32)
    one, zero = ctypes.c_float(1), ctypes.c_float(0)

    def product(**changed):
        values = {"m": 3, "n": 7, "k": 5, "lda": 3, "ldb": 5, "ldc": 3} | changed
        cublas.gemmEx(cupy.cuda.device.get_cublas_handle(), 0, 0, values["m"], values["n"], values["k"],
                      ctypes.addressof(one), x.data.ptr, 0, values["lda"], y.data.ptr, 0, values["ldb"],
                      ctypes.addressof(zero), z.data.ptr, 0, values["ldc"], 68, -1)

    product()
    np.testing.assert_allclose(z.get().T, a @ b, rtol=1e-5)
    with pytest.raises(cublas.CUBLASError, match="leading dimension 2 is below 3 rows"):
        product(lda=2)
    with pytest.raises(Fault, match="not inside one allocation"):
        product(ldb=100)


def test_recorded_work_runs_when_it_is_launched(cupy):
    pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
    x, y = cupy.ones(5, np.float32), cupy.zeros(5, np.float32)
    with stream, cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        y[...] = x * 2 + 1
        graph = stream.end_capture()
    assert (y.get() == 0).all()
    graph.launch()
    assert (y.get() == 3).all()
    x.fill(10)
    graph.launch(stream)
    stream.synchronize()
    assert (y.get() == 21).all()
    pool.free_all_blocks()
    with pytest.raises(Fault, match="memory that was given back"):
        graph.launch()


def test_waiting_for_the_host_cannot_be_recorded(cupy):
    stream, x = cupy.cuda.Stream(non_blocking=True), cupy.ones(5, np.float32)
    error = cupy.cuda.runtime.CUDARuntimeError
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(20), np.float32)
    for copy in (x.get, lambda: float(x.sum()), lambda: cupy.asarray(np.ones(3)),
                 lambda: x[x > 0], lambda: x.get(out=pinned, blocking=False), lambda: x.set(pinned)):
        with stream:
            stream.begin_capture()
            with pytest.raises(RuntimeError, match="the current stream is capturing, so"):
                copy()
            stream.end_capture()
    square = cupy.ones((3, 3), np.float32)
    for product in (lambda: square @ square, lambda: cupy.matmul(square, square)):
        with stream:
            stream.begin_capture()
            with pytest.raises(NotImplementedError, match="calling cuBLAS"):
                product()
            stream.end_capture()
    for wait in (stream.synchronize, cupy.cuda.Device(0).synchronize):
        with stream:
            stream.begin_capture()
            with pytest.raises(error, match="cudaErrorStreamCaptureUnsupported"):
                wait()
            with pytest.raises(error, match="cudaErrorStreamCaptureInvalidated"):
                stream.end_capture()


def test_memory_runs_out_and_is_reused():
    with stand_in.stand_in(total=1 << 20) as cupy:
        kept = cupy.zeros(100_000, np.float32)
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="Out of memory allocating 800,256 bytes"):
            cupy.zeros(200_000, np.float32)
        free, total = cupy.cuda.Device().mem_info
        assert total == 1 << 20 and free <= total - kept.nbytes
        for _ in range(20):
            cupy.zeros(100_000, np.float32)
        pool = cupy.get_default_memory_pool()
        assert pool.used_bytes() == 400_384 and pool.total_bytes() == 800_768


def test_module_goes_with_the_context(monkeypatch):
    import sys

    before = sys.modules.get("cupy")
    with stand_in.stand_in() as cupy:
        assert sys.modules["cupy"] is cupy
        from atrouscaffe.runtime.cuda import load_cupy, probe

        assert load_cupy() is cupy and probe().state == "ready"
    assert sys.modules.get("cupy") is before


def test_missing_wait_between_streams_shows(cupy):
    source = np.frombuffer(cupy.cuda.alloc_pinned_memory(20), np.float32)
    inward, x, arrived = cupy.cuda.Stream(non_blocking=True), cupy.zeros(5, np.float32), cupy.cuda.Event()
    source[...] = 3
    x.set(source, stream=inward)
    inward.record(arrived)
    assert ((x + 1).get() == 1).all()  # the copy need not have arrived
    assert not arrived.done
    cupy.cuda.get_current_stream().wait_event(arrived)
    assert ((x + 1).get() == 4).all() and arrived.done
    x.set(source, stream=inward)
    source[...] = 7  # too early
    inward.synchronize()
    assert (x.get() == 7).all()


@pytest.mark.parametrize("late", [False, True])
def test_work_gives_the_same_results_when_it_is_done_late(late):
    with stand_in.stand_in(late=late) as cupy:
        out = np.frombuffer(cupy.cuda.alloc_pinned_memory(20), np.float32)
        out[...] = -1
        x = cupy.asarray(np.arange(5, dtype=np.float32))
        kernel = cupy.RawModule(code=KERNELS).get_function("dynamic")
        kernel((1,), (5,), (x, np.int32(0)), shared_mem=20)
        y = x[cupy.asarray(np.array([4, 4, 0, 1, 2]))] * 2
        y.get(out=out, blocking=False)
        assert (out[0] == -1) == late
        cupy.cuda.get_current_stream().synchronize()
        assert out.tolist() == [0, 0, 8, 6, 4]


def test_errors_of_late_work_come_with_the_wait():
    with stand_in.stand_in(late=True) as cupy:
        x = cupy.zeros(64, np.int32)
        cupy.RawModule(code=KERNELS).get_function("half_barrier")((1,), (64,), (x,))
        with pytest.raises(Fault, match="deadlock"):
            x.get()
