"""Columns of a convolution: im2col and its adjoint col2im, with holes.

Row ``(c*kernel_h + ty)*kernel_w + tx`` of the column matrix holds, for output pixel (oy, ox), the
input pixel ``(oy*stride_h + ty*hole_h - pad_h, ox*stride_w + tx*hole_w - pad_w)`` of channel c, or
zero outside (``im2col.cpp`` of the forks; with one more axis, ``im2col_nd_cpu``)::

    hole 1: x x x . . . .        hole 2: x . x . x . .        hole 3: x . . x . . x

A convolution never makes the whole matrix: it asks for blocks of rows and pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops.im2col_cpu import add_columns, fill_columns
from atrouscaffe.runtime.backend import module_of, on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["Geo", "col2im", "flatten_windows", "fold", "geo_of", "im2col", "is_direct", "is_pointwise", "padded",
           "taps_of", "unfolded"]

Geo = tuple[int, int, int, int, int, int, int, int]
DIRECT_CHANNELS = 4


def geo_of(windows: Sequence[Window]) -> Geo:
    """Return (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w) of two windows."""
    h, w = windows
    return (h.kernel, w.kernel, h.stride, w.stride, h.pad, w.pad, h.hole, w.hole)


def taps_of(windows: Sequence[Window]) -> int:
    """Number of taps of a kernel."""
    taps = 1
    for window in windows:
        taps *= window.kernel
    return taps


def is_direct(weight: np.ndarray, outputs: int, group: int) -> bool:
    """Whether groups have so few channels, in and out, that loops beat matrix products."""
    return group > 1 and weight.shape[1] <= DIRECT_CHANNELS and outputs // group <= DIRECT_CHANNELS


def is_pointwise(windows: Sequence[Window]) -> bool:
    """Whether a convolution reads each pixel once and alone: its columns are the image itself."""
    return all((w.kernel, w.stride, w.pad) == (1, 1, 0) for w in windows)


def flatten_windows(array: np.ndarray, windows: Sequence[Window]) -> tuple[np.ndarray, tuple[Window, ...]]:
    """View a blob with one spatial axis as one with two, the first of size 1."""
    if len(windows) == 1:
        return array.reshape(*array.shape[:2], 1, array.shape[2]), (Window(1), windows[0])
    return array, tuple(windows)


def im2col(images: np.ndarray, columns: np.ndarray, windows: Sequence[Window]) -> None:
    """Write the columns of every image.

    Parameters
    ----------
    images : (N, C, \\*spatial) array
    columns : (N, C*taps, \\*out) array, written
    windows : sequence of Window
        One for each spatial axis.
    """
    if len(windows) > 2:
        for n in range(len(images)):
            source = unfolded(padded(images[n], windows), windows, columns.shape[2:])
            columns[n].reshape(source.shape)[...] = source
        return
    images, windows = flatten_windows(images, windows)
    if on_device(images):
        from atrouscaffe.ops import im2col_cuda

        im2col_cuda.im2col(images, columns, windows)
        return
    geo, out_w = geo_of(windows), columns.shape[-1]
    flat = columns.reshape(len(columns), columns.shape[1], -1)
    blocks = [(n, a, b) for n in range(len(flat)) for a, b in chunks(flat.shape[1], 16)]

    def work(i: int) -> None:
        n, a, b = blocks[i]
        fill_columns(images[n], flat[n, a:b], a, 0, out_w, geo)

    parallel(work, len(blocks))


def col2im(columns: np.ndarray, images: np.ndarray, windows: Sequence[Window]) -> None:
    """Write into each pixel the sum of the column entries that were read from it.

    Each task owns the planes it writes, so the order of additions is always the same.

    Parameters
    ----------
    columns : (N, C*taps, \\*out) array
    images : (N, C, \\*spatial) array, overwritten
    windows : sequence of Window
    """
    if len(windows) > 2:
        for n in range(len(images)):
            fold(columns[n].reshape(images.shape[1], *(w.kernel for w in windows), *columns.shape[2:]), images[n],
                 windows)
        return
    images, windows = flatten_windows(images, windows)
    if on_device(images):
        from atrouscaffe.ops import im2col_cuda

        im2col_cuda.col2im(columns, images, windows)
        return
    geo, out_w, taps = geo_of(windows), columns.shape[-1], taps_of(windows)
    flat = columns.reshape(len(columns), columns.shape[1], -1)
    channels = images.shape[1]

    def work(i: int) -> None:
        n, c = divmod(i, channels)
        images[n, c] = 0
        add_columns(flat[n, c * taps : (c + 1) * taps], images[n, c : c + 1], 0, 0, out_w, geo)

    parallel(work, len(images) * channels)


def padded(image: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
    """Return (C, \\*spatial) with zeros around, as wide as each window's pad."""
    return module_of(image).pad(image, [(0, 0)] + [(w.pad, w.pad) for w in windows])


def unfolded(image: np.ndarray, windows: Sequence[Window], out: Sequence[int]) -> np.ndarray:
    """View a padded image (C, \\*spatial) as (C, \\*kernel, \\*out): each tap of each output pixel."""
    taps = [s * w.hole for s, w in zip(image.strides[1:], windows)]
    steps = [s * w.stride for s, w in zip(image.strides[1:], windows)]
    return module_of(image).lib.stride_tricks.as_strided(
        image, (image.shape[0], *(w.kernel for w in windows), *out), (image.strides[0], *taps, *steps))


def fold(columns: np.ndarray, image: np.ndarray, windows: Sequence[Window]) -> None:
    """Sum (C, \\*kernel, \\*out) into `image` (C, \\*spatial), tap by tap: the adjoint of `unfolded`."""
    rank = len(windows)
    out = columns.shape[1 + rank:]
    size = [n + 2 * w.pad for n, w in zip(image.shape[1:], windows)]
    whole = module_of(image).zeros((image.shape[0], *size), image.dtype)
    for tap in itertools.product(*(range(w.kernel) for w in windows)):
        place = tuple(slice(t * w.hole, t * w.hole + (n - 1) * w.stride + 1, w.stride)
                      for t, n, w in zip(tap, out, windows))
        whole[(slice(None), *place)] += columns[(slice(None), *tap)]
    image[...] = whole[(slice(None), *(slice(w.pad, w.pad + n) for n, w in zip(image.shape[1:], windows)))]
