"""Launches of ``kernels/channels.cu``: see `atrouscaffe.ops.channels`."""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import BLOCK, launch

__all__ = ["affine", "blend", "channel_sums", "move_statistics", "normalizer"]

FEW = 64
"""Up to so many values a channel, one thread adds them up."""
SPAN = 32 * BLOCK
MOST_SPANS = 1024


def affine(x: Any, scale: Any, shift: Any, out: Any) -> None:
    """Write ``x * scale + shift``, either of them None; `out` may be `x`."""
    launch("channels", "affine", x.size, (x, scale, shift, out, x.size, x.shape[1], x.shape[2]), real=x.dtype)


def blend(x: Any, p: Any, y: Any, q: Any, shift: Any, out: Any) -> None:
    """Write ``x * p + y * q + shift``; `out` may be `x` or `y`."""
    launch("channels", "blend", x.size, (x, p, y, q, shift, out, x.size, x.shape[1], x.shape[2]), real=x.dtype)


def channel_sums(x: Any, y: Any = None, mean: Any = None, below: bool = False) -> Any:
    """Sum ``x``, ``x * y``, ``(x - mean) ** 2``, or with `below` ``min(x, 0) * y``; (C,) float64 on the device."""
    xp = module_of(x)
    outer, channels, inner = x.shape
    total = outer * inner
    if not x.size:
        return xp.zeros(channels, np.float64)
    totals = xp.empty(channels, np.float64)
    if total <= FEW:
        launch("channels", "channel_few", channels, (x, y, mean, totals, channels, inner, total, below), real=x.dtype)
        return totals
    span = max(SPAN, -(-total // MOST_SPANS))
    spans = -(-total // span)
    partials = totals if spans == 1 else xp.empty(channels * spans, np.float64)
    launch("channels", "channel_partials", (channels * spans,),
           (x, y, mean, partials, channels, inner, total, spans, span, below), real=x.dtype)
    if spans > 1:
        launch("channels", "channel_totals", channels, (partials, totals, channels, spans), real=x.dtype)
    return totals


def normalizer(mean: Any, variance: Any, eps: float, factor: Any = None) -> tuple[Any, Any]:
    """Return (inverse, shift), each (C,); the factor is read on the device, so that nothing waits for it."""
    xp = module_of(mean)
    inverse, shift = xp.empty(mean.shape, mean.dtype), xp.empty(mean.shape, mean.dtype)
    launch("channels", "normalizer", mean.size, (mean, variance, factor, inverse, shift, mean.size, eps),
           real=mean.dtype)
    return inverse, shift


def move_statistics(mean: Any, variance: Any, factor: Any, batch: tuple[Any, Any], fraction: float,
                    correction: float) -> None:
    """Write ``old * fraction + new`` into both statistics and their factor."""
    launch("channels", "move_statistics", mean.size,
           (mean, variance, factor, *batch, mean.size, fraction, correction), real=mean.dtype)
