"""The two functions of cuBLAS that the engine calls: matrices by columns, at raw addresses."""

from __future__ import annotations

import ctypes

import numpy as np

from tests.stand_in import streams
from tests.stand_in.errors import CUBLASError, Fault
from tests.stand_in.memory import device

FILE = "cublas of the stand-in"

HANDLE = 0xB1A5
OP_N, OP_T = 0, 1
COMPUTE_32F, COMPUTE_64F, COMPUTE_FAST_TF32, COMPUTE_FAST_16F = 68, 70, 77, 74
_TYPES = {0: np.dtype(np.float32), 1: np.dtype(np.float64), 2: np.dtype(np.float16)}
# (compute type, type of a and b) -> types that c may have
_ALLOWED = {(COMPUTE_32F, 0): (0,), (COMPUTE_32F, 2): (0, 2), (COMPUTE_FAST_TF32, 0): (0,), (COMPUTE_64F, 1): (1,),
            (COMPUTE_FAST_16F, 0): (0,)}


def _invalid(text):
    return CUBLASError(7, f"CUBLAS_STATUS_INVALID_VALUE: {text}")


def _matrix(pointer, kind, rows, columns, leading, batch, stride, name):
    """Return a (batch, rows, columns) view of memory where columns lie one behind another, `leading` apart."""
    dtype = _TYPES[kind]
    if leading < max(1, rows):
        raise _invalid(f"{name}: leading dimension {leading} is below {rows} rows")
    if pointer % dtype.itemsize:
        raise Fault(f"gemm: {name} is not aligned to its element type")
    extent = ((batch - 1) * stride + (columns - 1) * leading + rows) * dtype.itemsize
    block = device.find(pointer, extent, f"gemm: {name}")
    at = block.offset + pointer - block.start
    raw = block.buffer[at : at + extent]
    size = dtype.itemsize
    return np.ndarray((batch, rows, columns), dtype, raw, 0, (stride * size, size, leading * size)), block


def _tf32(values):
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(np.isfinite(values), ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32), values)


def _product(handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB, beta, C, Ctype,
             ldc, strideC, batchCount, computeType, algo):
    """c = alpha op(a) op(b) + beta c, with cuBLAS's meaning of every argument."""
    if handle != HANDLE:
        raise CUBLASError(1, "CUBLAS_STATUS_NOT_INITIALIZED")
    if algo not in (-1, 99):
        raise _invalid(f"algorithm {algo}")
    if transa not in (OP_N, OP_T) or transb not in (OP_N, OP_T) or min(m, n, k, batchCount) < 0:
        raise _invalid("operation or size")
    if Atype != Btype or Ctype not in _ALLOWED.get((computeType, Atype), ()):
        raise CUBLASError(15, f"CUBLAS_STATUS_NOT_SUPPORTED: compute {computeType} of types {Atype}, {Btype}, {Ctype}")
    if strideC == 0 and batchCount > 1:
        raise _invalid("one result for a whole batch")
    if not (m and n and batchCount):
        return
    scalar = ctypes.c_double if computeType == COMPUTE_64F else ctypes.c_float
    alpha_value, beta_value = scalar.from_address(alpha).value, scalar.from_address(beta).value
    c, block_c = _matrix(C, Ctype, m, n, ldc, batchCount, strideC, "c")
    used = [block_c]
    operands = []
    if k:
        for name, pointer, kind, leading, stride, trans, rows, columns in (
                ("a", A, Atype, lda, strideA, transa, m, k), ("b", B, Btype, ldb, strideB, transb, k, n)):
            if trans == OP_T:
                rows, columns = columns, rows
            matrix, block = _matrix(pointer, kind, rows, columns, leading, batchCount, stride, name)
            if np.shares_memory(matrix, c, max_work=1) if block is block_c else False:
                raise Fault(f"gemm: {name} and c overlap")
            operands.append(matrix.swapaxes(1, 2) if trans == OP_T else matrix)
            used.append(block)
    wide = np.float64 if computeType == COMPUTE_64F else np.float32

    def act():
        product = np.zeros(c.shape, wide)
        if operands:
            a, b = (operand.astype(wide) for operand in operands)
            if computeType == COMPUTE_FAST_TF32:
                a, b = _tf32(a), _tf32(b)
            with np.errstate(all="ignore"):
                product = np.matmul(a, b)
        with np.errstate(all="ignore"):
            result = product if alpha_value == 1 else wide(alpha_value) * product
            c[...] = result if beta_value == 0 else result + wide(beta_value) * c

    streams.submit(act, used)


def _single(handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, computeType,
            algo):
    _product(handle, transa, transb, m, n, k, alpha, A, Atype, lda, 0, B, Btype, ldb, 0, beta, C, Ctype, ldc, 0, 1,
             computeType, algo)


def refuse_to_be_recorded():
    if streams.recording():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")


def gemmStridedBatchedEx(*args, **named):
    """CuPy's wrapper."""
    refuse_to_be_recorded()
    _product(*args, **named)


def gemmEx(*args, **named):
    """CuPy's wrapper."""
    refuse_to_be_recorded()
    _single(*args, **named)


class Library:
    """What `atrouscaffe.runtime.cublas.load_cublas` gives for the real one: functions that return a status."""

    def __init__(self):
        self.stream = None

    def _status(self, call, *args):
        if self.stream != streams.get_current_stream().ptr:
            raise Fault("cuBLAS works on another stream than the current one")
        try:
            call(*args)
        except CUBLASError as error:
            return error.status
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.stream = stream
        return 0

    def cublasSetWorkspace_v2(self, handle, pointer, size):
        device.find(pointer, size, "cublasSetWorkspace")
        return 7 if pointer % 256 else 0

    def cublasGemmEx(self, *args):
        return self._status(_single, *args)

    def cublasGemmStridedBatchedEx(self, *args):
        return self._status(_product, *args)


LIBRARY = Library()


CONTENT = {
    "__file__": FILE,
    "gemmEx": gemmEx, "gemmStridedBatchedEx": gemmStridedBatchedEx, "setStream": lambda handle, stream: None,
    "CUBLAS_OP_N": OP_N, "CUBLAS_OP_T": OP_T, "CUBLAS_COMPUTE_32F": COMPUTE_32F, "CUBLAS_COMPUTE_64F": COMPUTE_64F,
    "CUBLAS_COMPUTE_32F_FAST_TF32": COMPUTE_FAST_TF32, "CUBLAS_COMPUTE_32F_FAST_16F": COMPUTE_FAST_16F,
    "CUBLAS_GEMM_DEFAULT": -1, "CUBLAS_GEMM_DEFAULT_TENSOR_OP": 99, "CUBLASError": CUBLASError,
}
