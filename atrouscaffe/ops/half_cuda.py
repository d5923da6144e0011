"""Operands of matrix products in half precision, by ``kernels/half.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.cuda import cached, current
from atrouscaffe.runtime.kernels import launch

__all__ = ["half_weight", "operand_type", "to_half"]


def to_half(source: Any) -> Any:
    """Return `source` rounded to float16; what is too large becomes the largest finite number."""
    xp = module_of(source)
    source = xp.ascontiguousarray(source)
    target = xp.empty(source.shape, np.float16)
    launch("half", "to_half", source.size, (source, target, source.size), real=source.dtype)
    return target


def half_weight(weight: Any) -> Any:
    """Return `weight` in half precision, kept until parameters change."""
    return cached("half", weight, lambda: to_half(weight))


def operand_type(x: Any) -> np.dtype:
    """Type of the operands of products on float32 blobs; float64 is for checks and stays."""
    backend = current()
    half = backend is not None and backend.precision == "fp16" and x.dtype == np.float32
    return np.dtype(np.float16) if half else x.dtype
