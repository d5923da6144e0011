"""The device itself: what is missing is told apart, what is used up is named, matrix products, recorded work."""

from __future__ import annotations

import gc
import importlib.util
from types import ModuleType

import numpy as np
import pytest

from atrouscaffe import TEST, Net
from atrouscaffe.errors import ArgumentError, BudgetError, DeviceError
from atrouscaffe.runtime import cublas as engine
from atrouscaffe.runtime.backend import get_backend, module_of, on_device
from atrouscaffe.runtime.cublas import DirectBlas, gemm
from atrouscaffe.runtime.cuda import Recording, cached, load_cupy, probe
from tests import stand_in as stand_in_package
from tests.stand_in import stand_in

NET = ('input: "x" input_shape { dim: 1 dim: 3 dim: 300 dim: 300 } layer { name: "c" type: "Convolution" bottom: "x" '
       'top: "c" convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }')


@pytest.fixture
def fake():
    if stand_in_package.missing():
        pytest.skip(stand_in_package.missing())
    with stand_in() as cupy:
        yield cupy


def patch(monkeypatch, fake: ModuleType, **functions) -> None:
    for name, value in functions.items():
        monkeypatch.setattr(fake.cuda.runtime, name, value)


def fails(fake: ModuleType, text: str):
    def call(*args):
        error = fake.cuda.runtime.CUDARuntimeError(100)
        error.args = (text,)
        raise error

    return call


def test_probe_tells_the_states_of_an_installation_apart(fake, monkeypatch):
    assert (probe().state, probe().capability) == ("ready", ((9, 0),))
    with monkeypatch.context() as m:
        patch(m, fake, getDeviceCount=fails(fake, "cudaErrorNoDevice: no CUDA-capable device is detected"))
        assert probe().state == "no device"
        with pytest.raises(DeviceError, match="no CUDA device"):
            get_backend("cuda")
    with monkeypatch.context() as m:
        patch(m, fake, getDeviceCount=lambda: 0)
        assert probe().state == "no device"
    with monkeypatch.context() as m:
        patch(m, fake, driverGetVersion=lambda: 0)
        assert probe().state == "no driver"
        with pytest.raises(DeviceError, match="driver"):
            get_backend("cuda:0")
    with monkeypatch.context() as m:
        patch(m, fake, driverGetVersion=lambda: 12020,
              getDeviceCount=fails(fake, "cudaErrorInsufficientDriver: CUDA driver version is insufficient"))
        assert probe().state == "old driver" and "12.2" in probe().message and "cuda12" in probe().message
    with monkeypatch.context() as m:
        m.setattr(fake, "zeros", fails(fake, "cudaErrorECCUncorrectable: uncorrectable ECC error encountered"))
        assert probe().state == "failing" and "ECC" in probe().message


@pytest.mark.parametrize(("package", "state", "match"), [
    (None, "not installed", "not installed.*pip install"),
    ('raise ImportError("libcublas.so.12: cannot open shared object file")', "cannot be loaded",
     "cannot be loaded.*libcublas.*only one of"),
    ('raise PermissionError(13, "Permission denied", "/home/x/.cupy")', "cannot be loaded", "CUPY_CACHE_DIR"),
    ('raise ImportError("===\\nFailed to import CuPy.") from ImportError("libnvrtc.so.13: no such file")',
     "cannot be loaded", "cannot be loaded: libnvrtc"),
    ("import nvidia_that_is_not_there", "cannot be loaded", "nvidia_that_is_not_there.*install it again")])
def test_cupy_when_missing_or_broken_then_the_error_says_what_to_install(tmp_path, monkeypatch, package, state, match):
    if package is None and importlib.util.find_spec("cupy"):
        pytest.skip("CuPy is installed here")
    if package is not None:
        (tmp_path / "cupy").mkdir()
        (tmp_path / "cupy" / "__init__.py").write_text(package)
        monkeypatch.syspath_prepend(tmp_path)
    load_cupy.cache_clear()
    try:
        assert probe().state == state
        with pytest.raises(DeviceError, match=match):
            get_backend("cuda")
    finally:
        load_cupy.cache_clear()


def test_device_when_it_cannot_do_what_is_asked_then_says_so(fake, monkeypatch):
    with pytest.raises(DeviceError, match=r"cuda:3.*has 1"):
        get_backend("cuda:3")
    with pytest.raises(DeviceError, match="expected 'cpu', 'cuda' or 'cuda:N', got 'gpu'"):
        get_backend("gpu")
    with pytest.raises(ArgumentError, match="fp8"):
        get_backend("cuda", "fp8")
    with pytest.raises(ArgumentError, match="on device 'cpu'"):
        get_backend("cpu", "fp16")
    properties = fake.cuda.runtime.getDeviceProperties(0)
    patch(monkeypatch, fake, getDeviceProperties=lambda i: {**properties, "major": 7, "minor": 5})
    assert not get_backend("cuda", "fp16").packs
    with pytest.raises(DeviceError, match=r"7\.5.*'tf32' needs 8\.0"):
        get_backend("cuda", "tf32")
    patch(monkeypatch, fake, getDeviceProperties=lambda i: {**properties, "major": 6, "minor": 1})
    with pytest.raises(DeviceError, match=r"6\.1.*7\.0"):
        get_backend("cuda")


def test_memory_when_the_plan_is_above_the_devices_then_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", "explicit")
    if stand_in_package.missing():
        pytest.skip(stand_in_package.missing())
    with stand_in(total=6_000_000) as fake, pytest.raises(BudgetError, match=r"needs 7 MB.*budget of 5 MB"):
        Net(NET, TEST, device="cuda", seed=1)
    with stand_in(total=9_000_000) as fake:
        net = Net(NET, TEST, device="cuda", seed=1)  # fits, but leaves no room for columns
        with pytest.raises(BudgetError, match=r"out of memory.*plan is 7 MB.*smaller input or batch"):
            net.forward(x=np.zeros((1, 3, 300, 300), np.float32))
        assert fake.cuda.Device(0).mem_info[1] == 9_000_000


def test_memory_when_a_net_is_reshaped_then_its_own_counts_as_free(monkeypatch):
    monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", "explicit")
    if stand_in_package.missing():
        pytest.skip(stand_in_package.missing())
    text = ('input: "x" input_shape { dim: 1 dim: 3 dim: 300 dim: 300 } layer { name: "a" type: "Power" bottom: "x" '
            'top: "a" } layer { name: "b" type: "Power" bottom: "a" top: "b" }')
    for keep in (None, []):
        with stand_in(total=6_500_000):
            net = Net(text, TEST, device="cuda", keep=keep)  # 3.2 MB
            net.forward(x=np.ones((1, 3, 300, 300), np.float32))
            net.blobs["x"].reshape(1, 3, 301, 299)
            net.reshape()
            assert net.forward(x=np.ones((1, 3, 301, 299), np.float32))["b"].min() == 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("trans_a", "trans_b"), [(False, False), (True, False), (False, True), (True, True)])
def test_gemm_equals_numpy_for_views_batches_and_sums(device, kind, trans_a, trans_b, rng):
    if device == "cpu":
        pytest.skip("cuBLAS is the device's")
    backend = get_backend(device)
    result = np.float64 if kind == np.float64 else np.float32
    wide = rng.standard_normal((4, 5, 19)).astype(kind)
    a = rng.standard_normal((7, 5) if not trans_a else (5, 7)).astype(kind)
    b = wide[:, :, 3:14] if not trans_b else np.ascontiguousarray(wide[:, :, 3:14].swapaxes(1, 2))
    c = rng.standard_normal((4, 7, 13)).astype(result)
    product = np.matmul(a.astype(np.float64).T if trans_a else a.astype(np.float64),
                        b.astype(np.float64).swapaxes(1, 2) if trans_b else b.astype(np.float64))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if kind != np.float64 else {"rtol": 1e-13, "atol": 1e-13}
    with backend.active():
        there = backend.asarray(wide)[:, :, 3:14] if not trans_b else backend.asarray(b)
        out = backend.asarray(c)
        gemm(backend.asarray(a), there, out[:, :, 1:12], trans_a=trans_a, trans_b=trans_b)
        got = backend.to_numpy(out)
        np.testing.assert_allclose(got[:, :, 1:12], product, **tolerance)
        np.testing.assert_array_equal(got[:, :, [0, 12]], c[:, :, [0, 12]])
        gemm(backend.asarray(a), there[2], out[2, :, 1:12], trans_a=trans_a, trans_b=trans_b, add=True)
        np.testing.assert_allclose(backend.to_numpy(out)[2, :, 1:12], 2 * product[2], **tolerance)


def test_gemm_when_recorded_then_equals_itself(device, rng):
    if device == "cpu":
        pytest.skip("work is recorded on devices")
    backend = get_backend(device)
    a, b = (backend.asarray(rng.standard_normal(shape).astype(np.float32)) for shape in ((3, 70, 50), (50, 40)))
    c, one = backend.zeros((3, 70, 40), np.float32), backend.zeros((70, 40), np.float32)

    def work() -> None:
        gemm(a, backend.xp.broadcast_to(b, (3, 50, 40)), c)
        gemm(a[1], b, one, add=True)

    recording = Recording(backend, work)
    product = backend.to_numpy(c)
    np.testing.assert_allclose(product[1], backend.to_numpy(a)[1] @ backend.to_numpy(b), rtol=1e-4, atol=1e-4)
    with backend.active():
        c.fill(0)
    recording.replay()
    np.testing.assert_allclose(backend.to_numpy(c), product, rtol=1e-5, atol=1e-5)  # cuBLAS may go another way
    np.testing.assert_allclose(backend.to_numpy(one), 2 * product[1], rtol=1e-5, atol=1e-5)


def test_cublas_when_it_fails_in_a_recording_then_the_status_is_told(fake):
    backend = get_backend("cuda")
    blas = fake.cuda.cublas
    with backend.active(), pytest.raises(NotImplementedError, match="stream capture"):
        stream = fake.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            blas.gemmEx()
    direct = DirectBlas(engine.load_cublas(""), 0, None)
    with pytest.raises(DeviceError, match="cublasGemmEx failed with status 7"):
        direct.gemmEx(fake.cuda.device.get_cublas_handle(), 0, 0, -1, 2, 2, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0, 2, 68, -1)


@pytest.mark.parametrize(("text", "match"), [
    ("CUBLAS_STATUS_ALLOC_FAILED", "failed: CUBLAS"), ("Failed to find CUDA headers. Please ...", "pip install"),
    ("CuPy failed to load libnvrtc.so.13: OSError: ...", "libnvrtc.*pip install"),
    ('Failure finding "libcublas.so.13": No such file', "libcublas.*pip install")])
def test_errors_on_the_way_to_cuda_are_the_devices(fake, text, match):
    backend = get_backend("cuda")
    kinds = {"CUBLAS": lambda: fake.cuda.cublas.CUBLASError(3, text), "Failur": lambda: ImportError(text)}
    with pytest.raises(DeviceError, match=match), backend.active():
        raise kinds.get(text[:6], lambda: RuntimeError(text))()
    for ours in (RuntimeError("what a layer of the user's raises"), ImportError("no module named theirs")):
        with pytest.raises(type(ours)) as caught, backend.active():
            raise ours
        assert caught.value is ours


def test_cached_form_lasts_until_parameters_change(device):
    if device == "cpu":
        pytest.skip("nothing is derived on the CPU")
    backend, made = get_backend(device), []
    with backend.active():
        array = backend.asarray(np.ones(3, np.float32))
        for _ in range(2):
            cached("twice", array, lambda: made.append(1) or 2 * array)
        assert len(made) == 1
        backend.parameters_changed()
        cached("twice", array, lambda: made.append(1) or 2 * array)
    assert len(made) == 2
    assert on_device(array) and module_of(array) is backend.xp and module_of(np.ones(1)) is np


def test_recording_when_the_work_waits_for_the_host_then_is_an_error(device):
    if device == "cpu":
        pytest.skip("work is recorded on devices")
    backend = get_backend(device)
    array = backend.asarray(np.ones(3, np.float32))
    with pytest.raises(DeviceError, match="cannot be recorded"):
        Recording(backend, lambda: float(array.sum()))
    total = backend.zeros((3,), np.float32)

    def work() -> None:
        nonlocal total
        total += array

    recording = Recording(backend, work)  # once for real, once written down
    recording.replay()
    recording.replay()
    np.testing.assert_array_equal(backend.to_numpy(total), [3, 3, 3])


def test_recording_when_it_goes_then_gives_its_memory_back(fake):
    backend = get_backend("cuda")
    a, out = backend.zeros((1000, 300), np.float32), backend.zeros((1000, 300), np.float32)

    def work() -> None:
        out[...] = (a + 1) * (a + 2)
        gemm(a[:300], a[:300], out[:300], trans_a=False)

    def free() -> int:
        gc.collect()  # what the stand-in wrote down refers to itself
        fake.get_default_memory_pool().free_all_blocks()
        return fake.cuda.Device(0).mem_info[0]

    before = free()
    recordings = [Recording(backend, work)]
    one = free()
    assert before - one >= (32 << 20) + 3 * 1_200_000
    for _ in range(3):
        recordings.append(Recording(backend, work))
        recordings.pop(0).replay()
        assert free() == one
    recordings.clear()
    assert free() == before


def test_recording_when_memory_runs_out_then_frees_nothing_that_was_recorded():
    if stand_in_package.missing():
        pytest.skip(stand_in_package.missing())
    with stand_in(total=8_500_000):
        backend = get_backend("cuda")
        out = backend.zeros((1_000_000,), np.float32)

        def work() -> None:
            small = out[:500_000] + 1
            out[:500_000] = small
            del small
            larger = out + 1  # 4 MB more: there is room once the 2 MB are given back, which the graph uses
            out[...] = larger

        with backend.active():
            work()
        with pytest.raises(BudgetError, match="out of memory"):
            Recording(backend, work)
        with backend.active():
            work()


@pytest.mark.parametrize(("log", "match"), [
    ('im2col.cu(3): error: identifier "x" is undefined\n\n1 error detected in the compilation of "im2col.cu".\n',
     'im2col.cu.3.: error: identifier "x" is undefined; `atrouscaffe doctor`'), ("", "no reason given")])
def test_kernel_that_does_not_compile_is_told_by_its_first_error(fake, log, match):
    backend = get_backend("cuda")
    with pytest.raises(DeviceError, match=match), backend.active():
        raise fake.cuda.compiler.CompileException(log, "", "im2col.cu", ())
