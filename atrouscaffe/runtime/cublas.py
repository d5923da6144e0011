"""Matrix products by cuBLAS, through CuPy, or directly for work that is recorded as a CUDA graph.

CuPy's wrappers raise NotImplementedError while a stream records, although cuBLAS itself can be recorded. So
the functions of the library that CuPy has loaded are called then, with what CuPy's take.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from atrouscaffe.errors import DeviceError
from atrouscaffe.runtime.cuda import current, load_cupy, recorder, recording

__all__ = ["DirectBlas", "gemm", "load_cublas"]

_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_PRODUCT = [_POINTER, _INT, _INT, _INT, _INT, _INT, _POINTER]
_OPERAND = [_POINTER, _INT, _INT]
_FUNCTIONS: dict[str, list[Any]] = {
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cublasGemmEx": [*_PRODUCT, *_OPERAND, *_OPERAND, _POINTER, *_OPERAND, _INT, _INT],
    "cublasGemmStridedBatchedEx": [*_PRODUCT, *_OPERAND, _LONG, *_OPERAND, _LONG, _POINTER, *_OPERAND, _LONG, _INT,
                                   _INT, _INT],
}


def gemm(a: Any, b: Any, c: Any, *, trans_a: bool = False, trans_b: bool = False, add: bool = False) -> None:
    """Write ``c = a b``, or add it to `c`, by cuBLAS.

    Parameters
    ----------
    a : (M, K) or (B, M, K) array
        float16, float32 or float64; (K, M) with `trans_a`. One matrix serves a whole batch.
    b : (K, N) or (B, K, N) array
        Of a's type; (N, K) with `trans_b`.
    c : (M, N) or (B, M, N) array, written
        float32 for float16 and float32 operands, float64 for float64. Rows may be further apart than
        they are long.
    trans_a, trans_b, add : bool
    """
    cupy = load_cupy()
    blas, api = cupy.cuda.cublas, cupy.cuda.runtime
    calls = _direct(blas) if recording() else blas
    kinds = {np.dtype(np.float16): api.CUDA_R_16F, np.dtype(np.float32): api.CUDA_R_32F,
             np.dtype(np.float64): api.CUDA_R_64F}
    m, n = c.shape[-2:]
    k = a.shape[-2] if trans_a else a.shape[-1]
    if not m or not n:
        return
    backend = current()
    if c.dtype == np.float64:
        scalar, compute = ctypes.c_double, blas.CUBLAS_COMPUTE_64F
    else:
        tf32 = backend is not None and backend.precision == "tf32" and a.dtype == np.float32
        scalar, compute = ctypes.c_float, blas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else blas.CUBLAS_COMPUTE_32F
    one, beta = scalar(1), scalar(1 if add else 0)
    # cuBLAS counts by columns: our rows are its columns, so c's transpose = b's transpose times a's.
    first = (blas.CUBLAS_OP_T if trans_b else blas.CUBLAS_OP_N, blas.CUBLAS_OP_T if trans_a else blas.CUBLAS_OP_N,
             n, m, k, ctypes.addressof(one))
    handle = cupy.cuda.device.get_cublas_handle()
    operands = [(array.data.ptr, kinds[array.dtype], _leading(array)) for array in (b, a, c)]
    if c.ndim == 2:
        calls.gemmEx(handle, *first, *operands[0], *operands[1], ctypes.addressof(beta), *operands[2], compute,
                     blas.CUBLAS_GEMM_DEFAULT)
        return
    steps = [array.strides[0] // array.itemsize if array.ndim == 3 else 0 for array in (b, a, c)]
    calls.gemmStridedBatchedEx(handle, *first, *operands[0], steps[0], *operands[1], steps[1], ctypes.addressof(beta),
                               *operands[2], steps[2], len(c), compute, blas.CUBLAS_GEMM_DEFAULT)


def _direct(blas: Any) -> DirectBlas:
    """Return what multiplies on the current stream while it records."""
    making = recorder()
    lent = None if making is None else making.workspace()
    return DirectBlas(load_cublas(blas.__file__), load_cupy().cuda.get_current_stream().ptr, lent)


def _leading(array: Any) -> int:
    """Return the distance between rows in elements; the numbers of a row must lie side by side."""
    if array.shape[-1] > 1 and array.strides[-1] != array.itemsize:
        raise DeviceError(f"gemm: expected rows without gaps, got shape {array.shape} with strides {array.strides}")
    if array.shape[-2] == 1:
        return array.shape[-1]
    return array.strides[-2] // array.itemsize


@functools.cache
def load_cublas(wrapper: str) -> Any:
    """Return the library that CuPy's extension module, a file, is linked with."""
    library = ctypes.CDLL(wrapper)  # names are looked up in what it depends on, too
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, _INT
    return library


class DirectBlas:
    """``gemmEx`` and ``gemmStridedBatchedEx`` as CuPy's, on a stream that records.

    Parameters
    ----------
    library : CDLL
    stream : int
        Its handle.
    workspace : (int, int) or None
        Address and bytes of memory on the device that stays where it is as long as the graph; without, cuBLAS
        allocates as part of the graph.
    """

    def __init__(self, library: Any, stream: int, workspace: tuple[int, int] | None) -> None:
        self._library, self._stream, self._workspace = library, stream, workspace

    def gemmEx(self, handle: int, *args: Any) -> None:
        """Multiply two matrices."""
        self._start("cublasGemmEx", handle, args)

    def gemmStridedBatchedEx(self, handle: int, *args: Any) -> None:
        """Multiply two batches of matrices."""
        self._start("cublasGemmStridedBatchedEx", handle, args)

    def _start(self, name: str, handle: int, args: tuple[Any, ...]) -> None:
        self._call("cublasSetStream_v2", handle, self._stream)  # which takes lent memory away: CuPy's next call does
        if self._workspace is not None:
            self._call("cublasSetWorkspace_v2", handle, *self._workspace)
        self._call(name, handle, *args)

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self._library, name)(*args)
        if status:
            raise DeviceError(f"cuBLAS: {name} failed with status {status} while work was recorded")
