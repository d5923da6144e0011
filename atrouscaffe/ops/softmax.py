"""Softmax along one axis, its gradient, and the cross entropy of softmax against labels.

All arrays here are (outer, channels, inner) views; pixels are the pairs (outer, inner). Nothing of
the size of the scores is kept between the passes: the loss needs one number a pixel, and the backward
pass computes the softmax again straight into the gradient, which is cheaper than storing it. Arrays on a
CUDA device go to `softmax_cuda`; there sums stay on the device, as arrays of shape ().
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.ops.elementwise import BLOCK, over_tiles
from atrouscaffe.ops.labels import LARGEST_LOSS
from atrouscaffe.ops.softmax_cpu import softmax_pixels
from atrouscaffe.ops.workspace import scratch
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import parallel

__all__ = ["cross_entropy", "cross_entropy_grad", "soft_cross_entropy", "soft_cross_entropy_grad", "softmax",
           "softmax_grad"]

LANES = 16
MOST_TILE = 256
ROOM = 2**13
"""Numbers of a tile: what the first-level cache holds."""


def _softmax_tile(x: Any, out: Any) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)


def softmax(x: Any, out: Any) -> None:
    """Write exp(x) / sum of exp(x) over channels; `out` may be `x`.

    Parameters
    ----------
    x, out : (outer, channels, inner) float32 or float64
    """
    if on_device(x):
        from atrouscaffe.ops import softmax_cuda

        softmax_cuda.softmax(x, out)
        return

    outer, channels, inner = x.shape
    if inner >= LANES and all(a.dtype == np.float32 and a.flags.c_contiguous for a in (x, out)):
        tile = min(MOST_TILE, max(2 * LANES, ROOM // channels // LANES * LANES))
        source, target, step = x.reshape(-1), out.reshape(-1), min(inner, max(tile, BLOCK // channels))
        runs = [(n, i * inner // (inner // step), (i + 1) * inner // (inner // step)) for n in range(outer)
                for i in range(inner // step)]

        def run(i: int) -> None:
            n, a, b = runs[i]
            softmax_pixels(source, target, scratch("softmax", (channels * tile,), np.float32), n * channels * inner, a,
                           b, channels, inner, tile)

        parallel(run, len(runs))
        return

    def work(rows: slice, columns: slice) -> None:
        _softmax_tile(x[rows, :, columns], out[rows, :, columns])

    over_tiles(x.shape, work)


def softmax_grad(y: Any, dy: Any, dx: Any) -> None:
    """Write y (dy - sum over channels of y dy); `dx` may be `dy`.

    Parameters
    ----------
    y, dy, dx : (outer, channels, inner) float32 or float64
        The softmax, its gradient, and the gradient of its input.
    """
    if on_device(y):
        from atrouscaffe.ops import softmax_cuda

        softmax_cuda.softmax_grad(y, dy, dx)
        return

    def work(rows: slice, columns: slice) -> None:
        part, grad, out = y[rows, :, columns], dy[rows, :, columns], dx[rows, :, columns]
        dot = (part * grad).sum(axis=1, keepdims=True)
        np.subtract(grad, dot, out=out)
        out *= part

    over_tiles(y.shape, work)


def cross_entropy(x: Any, labels: Any, weights: Any) -> Any:
    """Return the weighted sum over pixels of -log softmax(x)[label].

    Parameters
    ----------
    x : (outer, channels, inner) float32 or float64
    labels : (outer, inner) int32
        Pixels with a negative label are left out.
    weights : (outer, inner) float32 or float64, or None
        None counts every pixel once.

    Returns
    -------
    float
        Added up in float64; each pixel's loss is at most -log(FLT_MIN), as in Caffe.
    """
    if on_device(x):
        from atrouscaffe.ops import softmax_cuda

        return softmax_cuda.cross_entropy(x, labels, weights)

    def work(rows: slice, columns: slice) -> float:
        scores, label = x[rows, :, columns], labels[rows, columns]
        shifted = scores - scores.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(shifted, np.maximum(label, 0)[:, None, :], axis=1)[:, 0, :]
        np.exp(shifted, out=shifted)
        loss = np.log(shifted.sum(axis=1))
        loss -= chosen
        np.minimum(loss, LARGEST_LOSS, out=loss)
        counted = label >= 0
        loss = loss[counted].astype(np.float64)
        return float(loss.sum() if weights is None else np.sum(loss * weights[rows, columns][counted]))

    return sum(over_tiles(x.shape, work), 0.0)


def cross_entropy_grad(x: Any, labels: Any, weights: Any, factor: Any, dx: Any) -> None:
    """Write factor weight (softmax(x) - [channel is the label]), 0 where the label is negative.

    Parameters
    ----------
    x, dx : (outer, channels, inner) float32 or float64
        Not the same array: scores are still needed by whoever else reads them.
    labels, weights
        As in `cross_entropy`.
    factor : float
        Or an array of shape () on the device.
    """
    if on_device(x):
        from atrouscaffe.ops import softmax_cuda

        softmax_cuda.cross_entropy_grad(x, labels, weights, factor, dx)
        return

    def work(rows: slice, columns: slice) -> None:
        out, label = dx[rows, :, columns], labels[rows, columns]
        _softmax_tile(x[rows, :, columns], out)
        counted = label >= 0
        pixels = np.nonzero(counted)
        out[pixels[0], label[counted], pixels[1]] -= 1
        if weights is None and counted.all():
            out *= factor
            return
        scale = counted.astype(out.dtype) if weights is None else np.where(counted, weights[rows, columns], 0)
        scale *= factor
        out *= scale[:, None, :]

    over_tiles(x.shape, work)


def soft_cross_entropy(x: Any, target: Any, counted: Any, temperature: float) -> Any:
    """Return the sum over pixels of -softmax(target / T) · log softmax(x / T).

    Parameters
    ----------
    x, target : (outer, channels, inner) float32 or float64
        Scores, and the scores they are to follow.
    counted : (outer, inner) bool, or None
        Pixels that count; None is all.
    temperature : float
        T, above 0.

    Returns
    -------
    float
        Added up in float64.
    """
    if on_device(x):
        from atrouscaffe.ops import softmax_cuda

        return softmax_cuda.soft_cross_entropy(x, target, counted, temperature)

    def work(rows: slice, columns: slice) -> float:
        scores = x[rows, :, columns] / temperature
        scores -= scores.max(axis=1, keepdims=True)
        wanted = target[rows, :, columns] / temperature
        _softmax_tile(wanted, wanted)
        loss = np.log(np.exp(scores).sum(axis=1)) - (wanted * scores).sum(axis=1)
        return float((loss if counted is None else loss[counted[rows, columns]]).sum(dtype=np.float64))

    return sum(over_tiles(x.shape, work), 0.0)


def soft_cross_entropy_grad(x: Any, target: Any, counted: Any, temperature: float, factor: Any, dx: Any) -> None:
    """Write factor (softmax(x / T) - softmax(target / T)), 0 at pixels that do not count.

    Parameters
    ----------
    x, target, dx : (outer, channels, inner) float32 or float64
        `dx` is neither of the others.
    counted, temperature
        As in `soft_cross_entropy`.
    factor : float
        Or an array of shape () on the device.
    """
    if on_device(x):
        from atrouscaffe.ops import softmax_cuda

        softmax_cuda.soft_cross_entropy_grad(x, target, counted, temperature, factor, dx)
        return

    def work(rows: slice, columns: slice) -> None:
        out = dx[rows, :, columns]
        np.divide(x[rows, :, columns], temperature, out=out)
        _softmax_tile(out, out)
        wanted = target[rows, :, columns] / temperature
        _softmax_tile(wanted, wanted)
        out -= wanted
        out *= factor
        if counted is not None:
            out *= counted[rows, None, columns]

    over_tiles(x.shape, work)
