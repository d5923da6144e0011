"""Arithmetic by channel: scale, shift, sums, moments.

Arrays are seen as (outer, C, inner), values as (C,). Work is cut into pieces that stay in a core's
cache, so that several NumPy passes cost one pass over memory. Arrays on a CUDA device go to
`channels_cuda`, which gives arrays of its device back.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.ops.workspace import scratch
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["affine", "blend", "channel_moments", "channel_sums", "move_statistics", "normalizer", "three_axes"]

PIECE = 32768


def three_axes(array: np.ndarray, begin: int, end: int) -> np.ndarray:
    """View an array as (outer, C, inner), C being axes `begin` to `end` together."""
    outer = int(np.prod(array.shape[:begin], dtype=np.int64))
    middle = int(np.prod(array.shape[begin:end], dtype=np.int64))
    inner = int(np.prod(array.shape[end:], dtype=np.int64))
    return array.reshape(outer, middle, inner)


def _pieces(shape: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """Cut (outer, C, inner) into (outer from, to, channel from, to) of some `PIECE` elements."""
    outer, channels, inner = shape
    if channels * inner < PIECE:
        return [(a, b, 0, channels) for a, b in chunks(outer, PIECE // max(1, channels * inner))]
    step = max(1, PIECE // max(1, inner))
    return [(n, n + 1, a, b) for n in range(outer) for a, b in chunks(channels, step)]


def affine(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, out: np.ndarray) -> None:
    """Write ``x * scale + shift``; `out` may be `x`.

    Parameters
    ----------
    x, out : (outer, C, inner) array
    scale, shift : (C,) array or None
    """
    if on_device(x):
        from atrouscaffe.ops import channels_cuda

        channels_cuda.affine(x, scale, shift, out)
        return
    pieces = _pieces(x.shape)

    def work(i: int) -> None:
        m, n, a, b = pieces[i]
        source, target = x[m:n, a:b], out[m:n, a:b]
        if scale is not None:
            source = np.multiply(source, scale[a:b, None], out=target)
        if shift is not None:
            np.add(source, shift[a:b, None], out=target)
        elif scale is None:
            target[...] = source

    parallel(work, len(pieces))


def blend(x: np.ndarray, p: np.ndarray, y: np.ndarray, q: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
    """Write ``x * p + y * q + shift``; `out` may be `x` or `y`. Shapes as in `affine`."""
    if on_device(x):
        from atrouscaffe.ops import channels_cuda

        channels_cuda.blend(x, p, y, q, shift, out)
        return
    pieces = _pieces(x.shape)

    def work(i: int) -> None:
        m, n, a, b = pieces[i]
        part = scratch("blend", (n - m, b - a, x.shape[2]), x.dtype)
        np.multiply(x[m:n, a:b], p[a:b, None], out=part)
        part += shift[a:b, None]
        np.multiply(y[m:n, a:b], q[a:b, None], out=out[m:n, a:b])
        out[m:n, a:b] += part

    parallel(work, len(pieces))


def channel_sums(x: np.ndarray, y: np.ndarray | None = None, mean: np.ndarray | None = None) -> np.ndarray:
    """Sum ``x``, ``x * y``, or ``(x - mean) ** 2`` over everything but the channels.

    Parameters
    ----------
    x, y : (outer, C, inner) array
    mean : (C,) array

    Returns
    -------
    (C,) float64 array
        Added up in the arrays' type along the last axis and in float64 among rows.
    """
    if on_device(x):
        from atrouscaffe.ops import channels_cuda

        return channels_cuda.channel_sums(x, y, mean)
    outer, channels, inner = x.shape
    totals = np.zeros(channels, np.float64)
    blocks = chunks(channels, max(1, min(-(-channels // 8), PIECE // max(1, inner))))

    def work(i: int) -> None:
        a, b = blocks[i]
        rows = max(1, PIECE // max(1, (b - a) * inner))
        for m, n in chunks(outer, rows):
            part = x[m:n, a:b]
            if mean is not None or y is not None:
                product = scratch("sums", part.shape, x.dtype)
                if mean is not None:
                    np.subtract(part, mean[a:b, None], out=product)
                    np.multiply(product, product, out=product)
                else:
                    np.multiply(part, y[m:n, a:b], out=product)
                part = product
            totals[a:b] += part.sum(axis=2).sum(axis=0, dtype=np.float64)

    parallel(work, len(blocks))
    return totals


def channel_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and (biased) variance of each channel of (outer, C, inner), each (C,) in x's type."""
    count = max(1, x.shape[0] * x.shape[2])
    mean = (channel_sums(x) / count).astype(x.dtype)
    return mean, (channel_sums(x, mean=mean) / count).astype(x.dtype)


def normalizer(mean: np.ndarray, variance: np.ndarray, eps: float,
               factor: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return (inverse, shift), each (C,): what `affine` normalises channels with.

    ``inverse = 1 / sqrt(variance + eps)`` and ``shift = -mean * inverse``.

    Parameters
    ----------
    mean, variance : (C,) array
    eps : float
    factor : (1,) array, optional
        Running statistics are sums that this divides; 0 counts as no statistics: both are taken as 0.
    """
    if on_device(mean):
        from atrouscaffe.ops import channels_cuda

        return channels_cuda.normalizer(mean, variance, eps, factor)
    if factor is not None:
        total = float(factor[0])
        share = mean.dtype.type(0 if total == 0 else 1 / total)
        mean, variance = mean * share, variance * share
    inverse = 1 / np.sqrt(variance + mean.dtype.type(eps))
    return inverse, -mean * inverse


def move_statistics(mean: np.ndarray, variance: np.ndarray, factor: np.ndarray, batch: tuple[np.ndarray, np.ndarray],
                    fraction: float, count: int) -> None:
    """Add the moments of a batch to running sums: ``old * fraction + new``, in place.

    Parameters
    ----------
    mean, variance : (C,) array
    factor : (1,) array
        Counts the batches, by the same rule.
    batch : (mean, variance)
        From `channel_moments`.
    fraction : float
    count : int
        Values a channel; the variance counts count / (count - 1) times.
    """
    correction = count / (count - 1) if count > 1 else 1.0
    if on_device(mean):
        from atrouscaffe.ops import channels_cuda

        channels_cuda.move_statistics(mean, variance, factor, batch, fraction, correction)
        return
    keep = mean.dtype.type(fraction)
    mean[...] = mean * keep + batch[0]
    variance[...] = variance * keep + batch[1] * mean.dtype.type(correction)
    factor[...] = factor * keep + 1
