"""Launches of ``kernels/argmax.cu``: see `atrouscaffe.ops.argmax`."""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch

__all__ = ["argmax", "label_ranks", "top_channels"]


LONG_ROW = 64
"""Rows (inner 1) of at least so many channels get a block each."""


def argmax(x: Any) -> Any:
    """Return the last of each pixel's largest channels, (outer, inner) int32."""
    outer, channels, inner = x.shape
    out = module_of(x).empty((outer, inner), np.int32)
    if inner == 1 and channels >= LONG_ROW:
        launch("argmax", "argmax_rows", (outer,), (x, out, channels), real=x.dtype)
    else:
        launch("argmax", "argmax", out.size, (x, out, out.size, channels, inner), real=x.dtype)
    return out


def top_channels(x: Any, k: int) -> Any:
    """Return the `k` largest channels of each pixel, largest first, (outer, k, inner) int32."""
    outer, channels, inner = x.shape
    out = module_of(x).empty((outer, k, inner), np.int32)
    launch("argmax", "top_channels", outer * inner, (x, out, outer * inner, channels, inner, k), real=x.dtype)
    return out


def label_ranks(x: Any, labels: Any, all_equal: bool) -> Any:
    """Return how many channels come before each pixel's label, (outer, inner) int32."""
    outer, channels, inner = x.shape
    out = module_of(x).empty((outer, inner), np.int32)
    if inner == 1 and channels >= LONG_ROW:
        launch("argmax", "label_ranks_rows", (outer,), (x, labels, out, channels, all_equal), real=x.dtype)
    else:
        launch("argmax", "label_ranks", out.size, (x, labels, out, out.size, channels, inner, all_equal), real=x.dtype)
    return out
