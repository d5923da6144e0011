"""Errors: those that CuPy raises, and the one that says that a kernel or its use is wrong."""

from __future__ import annotations

_STATUS = {
    1: ("cudaErrorInvalidValue", "invalid argument"),
    2: ("cudaErrorMemoryAllocation", "out of memory"),
    100: ("cudaErrorNoDevice", "no CUDA-capable device is detected"),
    101: ("cudaErrorInvalidDevice", "invalid device ordinal"),
    400: ("cudaErrorInvalidResourceHandle", "invalid resource handle"),
    900: ("cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"),
    901: ("cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"),
    904: ("cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"),
    906: ("cudaErrorStreamCaptureImplicit", "operation would make the legacy stream depend on a capturing stream"),
}


class Fault(AssertionError):
    """A kernel, or the way it was used, is wrong; no program is meant to catch this."""


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__(": ".join(_STATUS.get(status, (f"cudaError {status}",))))


class CUDADriverError(RuntimeError):
    def __init__(self, status, text="CUDA_ERROR_INVALID_VALUE: invalid argument"):
        self.status = status
        super().__init__(text)


class CUBLASError(RuntimeError):
    def __init__(self, status, text):
        self.status = status
        super().__init__(text)


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(f"{text}, limit set to: {limit:,} bytes)." if limit else f"{text}).")


class CompileException(Exception):
    def __init__(self, msg, source, name, options, backend="nvrtc"):
        self._msg, self.source, self.name, self.options, self.backend = msg, source, name, options, backend
        super().__init__()

    def __str__(self):
        return self._msg

    def get_message(self):
        return self._msg
