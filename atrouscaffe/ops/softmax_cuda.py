"""Launches of ``kernels/softmax.cu``: see `atrouscaffe.ops.softmax`.

Sums are left on the device, and factors may lie there, so that a training step need not wait for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.ops.labels import LARGEST_LOSS
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import BLOCK, launch

__all__ = ["cross_entropy", "cross_entropy_grad", "soft_cross_entropy", "soft_cross_entropy_grad", "softmax",
           "softmax_grad"]

LONG_ROW = 64
"""Rows (inner 1) of at least so many channels get a block each."""
MOST_BLOCKS = 1024
"""Of a sum over pixels; each leaves one partial sum."""


def _by_rows(x: Any) -> bool:
    return x.shape[2] == 1 and x.shape[1] >= LONG_ROW


def _launch(function: str, first: tuple[Any, ...], x: Any, *more: Any) -> None:
    """Start a kernel over the pixels, or over rows of channels, of x."""
    outer, channels, inner = x.shape
    if _by_rows(x):
        launch("softmax", f"{function}_rows", (outer,), (*first, channels, *more), real=x.dtype)
    else:
        launch("softmax", function, outer * inner, (*first, outer * inner, channels, inner, *more), real=x.dtype)


def softmax(x: Any, out: Any) -> None:
    """Write the softmax; `out` may be `x`."""
    _launch("softmax", (x, out), x)


def softmax_grad(y: Any, dy: Any, dx: Any) -> None:
    """Write y (dy - sum over channels of y dy); `dx` may be `dy`."""
    _launch("softmax_grad", (y, dy, dx), y)


def _total(xp: Any, partials: Any) -> Any:
    """Return the sum of float64 numbers, shape ()."""
    total = xp.empty((), np.float64)
    launch("softmax", "add_partials", (1,), (partials, total, partials.size))
    return total


def cross_entropy(x: Any, labels: Any, weights: Any) -> Any:
    """Return the weighted sum of the pixels' losses: float64, shape (), on the device."""
    xp = module_of(x)
    outer, channels, inner = x.shape
    if not x.size:
        return xp.zeros((), np.float64)
    if _by_rows(x):
        partials = xp.empty(outer, np.float64)
        launch("softmax", "cross_entropy_rows", (outer,), (x, labels, weights, partials, channels, LARGEST_LOSS),
               real=x.dtype)
        return _total(xp, partials)
    partials = xp.empty(_blocks(outer * inner), np.float64)
    launch("softmax", "cross_entropy", partials.shape,
           (x, labels, weights, partials, outer * inner, channels, inner, LARGEST_LOSS), real=x.dtype)
    return _total(xp, partials)


def _blocks(pixels: int) -> int:
    return min(MOST_BLOCKS, -(-pixels // BLOCK))


def _factor(x: Any, factor: Any) -> Any:
    """Return a number, here or on the device, as one of x's type on the device."""
    return module_of(x).full((), factor, x.dtype) if isinstance(factor, (int, float)) else factor.astype(x.dtype)


def cross_entropy_grad(x: Any, labels: Any, weights: Any, factor: Any, dx: Any) -> None:
    """Write factor weight (softmax(x) - [channel is the label]), 0 where the label is negative."""
    _launch("cross_entropy_grad", (x, labels, weights, _factor(x, factor), dx), x)


def soft_cross_entropy(x: Any, target: Any, counted: Any, temperature: float) -> Any:
    """Return the sum over pixels of -softmax(target / T) . log softmax(x / T): float64, shape (), on the device."""
    xp = module_of(x)
    outer, channels, inner = x.shape
    if not x.size:
        return xp.zeros((), np.float64)
    partials = xp.empty(_blocks(outer * inner), np.float64)
    launch("softmax", "soft_cross_entropy", partials.shape,
           (x, target, counted, partials, outer * inner, channels, inner, temperature), real=x.dtype)
    return _total(xp, partials)


def soft_cross_entropy_grad(x: Any, target: Any, counted: Any, temperature: float, factor: Any, dx: Any) -> None:
    """Write factor (softmax(x / T) - softmax(target / T)), 0 at pixels that do not count."""
    outer, channels, inner = x.shape
    launch("softmax", "soft_cross_entropy_grad", outer * inner,
           (x, target, counted, _factor(x, factor), dx, outer * inner, channels, inner, temperature), real=x.dtype)
