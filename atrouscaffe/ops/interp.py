"""Bilinear resizing with aligned corners, with the original's float32 coordinates.

Output pixel i of n reads source position ``i * (eff-1)/(n-1)`` of the cropped input: the ratio is
a float32, the product too, its whole part is cut off, the right neighbour stops at the edge. A
position that falls on a pixel reads that pixel exactly. Source: ``util/interp.cpp`` of the forks.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.ops import interp_cpu
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["resize", "resize_adjoint", "source_positions"]


def source_positions(size: int, out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where `out` pixels come from in `size` pixels.

    Returns
    -------
    index : (out,) int64
        First source pixel.
    step : (out,) int64
        1, or 0 at the last pixel: distance of the second source pixel.
    weight : (out,) float32
        Weight of the second source pixel.
    """
    ratio = np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
    position = ratio * np.arange(out, dtype=np.float32)
    index = position.astype(np.int64)
    # Rounding may carry the last position beyond the last pixel, where the original reads on.
    np.minimum(index, size - 1, out=index)
    weight = position - index.astype(np.float32)
    return index, (index < size - 1).astype(np.int64), weight


def _tables(shape: tuple[int, ...], out: tuple[int, ...], crop: tuple[int, int], dtype: np.dtype) -> tuple:
    """Return the tables of both axes, in the original blob's coordinates."""
    begin, end = crop
    tables = []
    for size, wanted in zip(shape, out):
        index, step, weight = source_positions(size - begin - end, wanted)
        tables += [index + begin, step, weight.astype(dtype)]
    return tuple(tables)


def resize(x: np.ndarray, y: np.ndarray, crop: tuple[int, int] = (0, 0)) -> None:
    """Write `x`, cropped, resized to the shape of `y`; equal sizes are copied.

    Parameters
    ----------
    x : (N, C, H, W) array
    y : (N, C, out_h, out_w) array, written
    crop : (int, int)
        Pixels left out at the beginning and at the end of both axes.
    """
    begin, end = crop
    inner = x[:, :, begin : x.shape[2] - end, begin : x.shape[3] - end]
    if inner.shape == y.shape:
        y[...] = inner
        return
    if on_device(x):
        from atrouscaffe.ops import interp_cuda

        interp_cuda.resize(x, y, crop)
        return
    planes, out = x.reshape(-1, *x.shape[2:]), y.reshape(-1, *y.shape[2:])
    *down, columns, right, later = _tables(x.shape[2:], y.shape[2:], crop, x.dtype)
    tables = *down, columns.astype(np.int32), (columns + right).astype(np.int32), later
    blocks = chunks(out.shape[0] * out.shape[1], max(1, 32768 // max(1, out.shape[2])))
    parallel(lambda i: interp_cpu.resize_forward(planes, out, *blocks[i], *tables), len(blocks))


def resize_adjoint(dy: np.ndarray, dx: np.ndarray, crop: tuple[int, int] = (0, 0)) -> None:
    """Overwrite dx (N, C, H, W) with the adjoint of `resize`; each task owns its planes."""
    begin, end = crop
    inner = dx[:, :, begin : dx.shape[2] - end, begin : dx.shape[3] - end]
    if on_device(dx) and inner.shape != dy.shape:
        from atrouscaffe.ops import interp_cuda

        interp_cuda.resize_adjoint(dy, dx, crop)
        return
    dx[...] = 0
    if inner.shape == dy.shape:
        inner[...] = dy
        return
    planes, tops = dx.reshape(-1, *dx.shape[2:]), dy.reshape(-1, *dy.shape[2:])
    tables = _tables(dx.shape[2:], dy.shape[2:], crop, dx.dtype)
    blocks = chunks(len(planes), max(1, 32768 // max(1, tops.shape[1] * tops.shape[2])))
    parallel(lambda i: interp_cpu.resize_backward(tops, planes, *blocks[i], *tables), len(blocks))
