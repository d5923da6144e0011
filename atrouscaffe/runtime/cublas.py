"""cuBLAS called directly, for work that is recorded as a CUDA graph.

CuPy's wrappers raise NotImplementedError while a stream records, although cuBLAS itself can be recorded. The
functions here are those of the library that CuPy has loaded, and take what CuPy's take.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from atrouscaffe.errors import DeviceError

__all__ = ["DirectBlas", "load_cublas", "workspace_bytes"]

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


@functools.cache
def load_cublas(wrapper: str) -> Any:
    """Return the library that CuPy's extension module, a file, is linked with."""
    library = ctypes.CDLL(wrapper)  # names are looked up in what it depends on, too
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, _INT
    return library


def workspace_bytes(capability: tuple[int, int]) -> int:
    """Return how much memory cuBLAS recommends to lend it on a device of this compute capability."""
    return 32 << 20 if (9, 0) <= capability < (12, 0) else 12 << 20 if capability >= (12, 0) else 4 << 20


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
