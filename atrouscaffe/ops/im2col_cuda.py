"""Launches of ``kernels/im2col.cu``: see `atrouscaffe.ops.im2col`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.runtime.kernels import launch

__all__ = ["add_columns", "col2im", "fill_columns", "im2col", "reader_steps"]


def fill_columns(images: Any, columns: Any, pixel0: int, out_w: int, geo: Sequence[int]) -> None:
    """Write the columns of output pixels `pixel0` and on of every image.

    Parameters
    ----------
    images : (N, C, H, W) array
    columns : (N, C*taps, pixels) array, written
        Of the images' type, or float16, then rounded on the way.
    pixel0, out_w : int
    geo : (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w)
    """
    pixels = columns.shape[-1]
    count = images.shape[0] * images.shape[1] * pixels
    args = (images, columns, count, *images.shape[2:], out_w, pixel0, pixels, *geo)
    if columns.dtype == np.float16:
        launch("im2col", "im2col_half", count, args, real=images.dtype)
    else:
        launch("im2col", "im2col", count, args, real=images.dtype)


def add_columns(columns: Any, bias: Any, images: Any, pixel0: int, out: Sequence[int], geo: Sequence[int]) -> None:
    """Add the columns of output pixels `pixel0` and on to the pixels they came from; the first block overwrites.

    Parameters
    ----------
    columns : (N, C*taps, pixels) array
    bias : (C,) array or None
        What each sum starts with.
    images : (N, C, H, W) array, written
    pixel0 : int
    out : (out_h, out_w)
    geo : as in `fill_columns`
    """
    launch("im2col", "col2im", images.size,
           (columns, bias, images, images.size, images.shape[1], *images.shape[2:], *out, pixel0, columns.shape[-1],
            *geo, *reader_steps(geo)), real=images.dtype)


def reader_steps(geo: Sequence[int]) -> tuple[int, int]:
    """Return, for height and width, one tap in how many reads a given pixel: stride over its divisor with the hole."""
    return geo[2] // math.gcd(geo[2], geo[6]), geo[3] // math.gcd(geo[3], geo[7])


def im2col(images: Any, columns: Any, windows: Sequence[Window]) -> None:
    """Write the columns of every image; (N, C, H, W) and (N, C*taps, out_h, out_w)."""
    fill_columns(images, columns.reshape(*columns.shape[:2], math.prod(columns.shape[2:])), 0, columns.shape[-1],
                 _geo(windows))


def col2im(columns: Any, images: Any, windows: Sequence[Window]) -> None:
    """Write into each pixel the sum of the column entries that were read from it; shapes as in `im2col`."""
    add_columns(columns.reshape(*columns.shape[:2], math.prod(columns.shape[2:])), None, images, 0, columns.shape[2:],
                _geo(windows))


def _geo(windows: Sequence[Window]) -> tuple[int, ...]:
    h, w = windows
    return (h.kernel, w.kernel, h.stride, w.stride, h.pad, w.pad, h.hole, w.hole)
