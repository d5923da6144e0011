"""Convolution over three and more axes, by strided views (rare, so without compiled code).

Columns are made for one image and one slab of the first output axis at a time. Shapes as in `conv`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops.im2col import fold, padded, taps_of, unfolded
from atrouscaffe.ops.workspace import TILE_BYTES
from atrouscaffe.runtime.backend import module_of, on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["forward", "transpose", "weight_gradient"]


def _slabs(rows: int, out: Sequence[int], itemsize: int) -> list[tuple[int, int]]:
    """Cut the first output axis so that a slab's columns take about `TILE_BYTES`."""
    one = max(1, rows * int(np.prod(out[1:])) * itemsize)
    return chunks(out[0], max(1, TILE_BYTES // one))


def _columns(image: np.ndarray, windows: Sequence[Window], out: Sequence[int], a: int, b: int) -> np.ndarray:
    """Return (C, taps, pixels) of output slab a to b of a padded image."""
    first = windows[0]
    view = unfolded(image[:, a * first.stride:], windows, (b - a, *out[1:]))
    return module_of(image).ascontiguousarray(view).reshape(image.shape[0], taps_of(windows), -1)


def _each(work: Callable[[int], None], x: np.ndarray) -> None:
    """Call `work` for every image, side by side on the CPU; a device is one stream, which this thread feeds."""
    if on_device(x):
        for n in range(len(x)):
            work(n)
    else:
        parallel(work, len(x))


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, windows: Sequence[Window],
            group: int) -> None:
    """Write the convolution; one task an image."""
    out = y.shape[2:]
    kernel = weight.reshape(group, weight.shape[0] // group, -1)

    def work(n: int) -> None:
        image = padded(x[n], windows)
        for a, b in _slabs(x.shape[1] * taps_of(windows), out, x.itemsize):
            columns = _columns(image, windows, out, a, b).reshape(group, kernel.shape[2], -1)
            y[n, :, a:b] = module_of(x).matmul(kernel, columns).reshape(y.shape[1], b - a, *out[1:])
        if bias is not None:
            y[n] += bias.reshape(-1, *(1 for _ in windows))

    _each(work, x)


def _top_slabs(dy: np.ndarray, n: int, group: int, slabs: list[tuple[int, int]]) -> Iterator[tuple]:
    for a, b in slabs:
        yield a, b, module_of(dy).ascontiguousarray(dy[n, :, a:b]).reshape(group, dy.shape[1] // group, -1)


def transpose(dy: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, x: np.ndarray, windows: Sequence[Window],
              group: int) -> None:
    """Write the adjoint; one task an image."""
    xp, out = module_of(x), dy.shape[2:]
    kernel = weight.reshape(group, weight.shape[0] // group, -1).swapaxes(1, 2)
    slabs = _slabs(x.shape[1] * taps_of(windows), out, x.itemsize)
    first, inner = windows[0], tuple(replace(w, pad=0) for w in windows)

    def work(n: int) -> None:
        whole = xp.zeros((x.shape[1], *(s + 2 * w.pad for s, w in zip(x.shape[2:], windows))), x.dtype)
        for a, b, top in _top_slabs(dy, n, group, slabs):
            columns = xp.matmul(kernel, top).reshape(x.shape[1], *(w.kernel for w in windows), b - a, *out[1:])
            begin, size = a * first.stride, (b - a - 1) * first.stride + first.extent
            part = xp.empty((x.shape[1], size, *whole.shape[2:]), x.dtype)
            fold(columns, part, inner)
            whole[:, begin : begin + size] += part
        x[n] = whole[(slice(None), *(slice(w.pad, w.pad + s) for w, s in zip(windows, x.shape[2:])))]
        if bias is not None:
            x[n] += bias.reshape(-1, *(1 for _ in windows))

    _each(work, x)


def weight_gradient(x: np.ndarray, dy: np.ndarray, dweight: np.ndarray, windows: Sequence[Window], group: int) -> None:
    """Add the weight gradient; images in order, on one thread."""
    out = dy.shape[2:]
    slabs = _slabs(x.shape[1] * taps_of(windows), out, x.itemsize)
    gradient = dweight.reshape(group, dweight.shape[0] // group, -1)
    for n in range(len(x)):
        image = padded(x[n], windows)
        for a, b, top in _top_slabs(dy, n, group, slabs):
            columns = _columns(image, windows, out, a, b).reshape(group, gradient.shape[2], -1)
            gradient += module_of(x).matmul(top, columns.swapaxes(1, 2))
