"""Packed values: half precision, channels innermost, between layers that all understand them.

On a CUDA device with ``precision="fp16"`` the implicit convolutions read and write pixels of 8 channels
a time (`atrouscaffe.ops.conv_implicit_cuda`); where a blob is read and written by such layers alone,
its values stay packed, in the memory of the blob: half the bytes, and no pass to turn them around.
There is no CPU half: which blobs are packed is decided by `atrouscaffe.graph.fuse` for such a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.geometry import Window

__all__ = ["convolves_packed", "fits_packed", "packed_conv", "packed_pool", "packed_view"]


def _padded(channels: int) -> int:
    """Return how many channels a packed pixel has room for."""
    from atrouscaffe.ops.conv_implicit_cuda import PER_CHUNK, chunks_of

    return chunks_of(channels, "fp16") * PER_CHUNK["fp16"]


def fits_packed(shape: Sequence[int]) -> bool:
    """Whether packed values of a blob (N, C, H, W) fit into the float32 blob's own memory."""
    return len(shape) == 4 and _padded(shape[1]) <= 2 * shape[1]


def convolves_packed(weight: Sequence[int], group: int) -> bool:
    """Whether a convolution with weights of this shape, (M, C/group, \\*kernel), reads and writes packed values."""
    from atrouscaffe.ops.conv_implicit_cuda import MOST_TAPS

    return group == 1 and len(weight) == 4 and max(weight[2:]) <= MOST_TAPS


def packed_view(array: Any) -> Any:
    """Return the memory of a float32 blob (N, C, H, W) as packed values, (N, H*W, 1, channels) float16."""
    n, c, h, w = array.shape
    shape = (n, h * w, 1, _padded(c))
    return array.reshape(-1).view(np.float16)[: math.prod(shape)].reshape(shape)


def packed_conv(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], relu: bool,
                packed: tuple[bool, bool]) -> None:
    """Convolve in one group, `x` or `y` or both packed.

    Parameters
    ----------
    x : (N, C, H, W) array
    weight : (M, C, kernel_h, kernel_w) array
    bias : (M,) array or None
    y : (N, M, out_h, out_w) array, written
    windows : sequence of two Window
    relu : bool
    packed : (bool, bool)
        Whether the memory of x and of y holds packed values.
    """
    from atrouscaffe.ops.conv_cuda import conv_packed

    conv_packed(x, weight, bias, y, windows, relu, packed_view(x) if packed[0] else None,
                packed_view(y) if packed[1] else None)


def packed_pool(x: Any, y: Any, windows: Sequence[Window], average: bool) -> None:
    """Pool packed values, by maximum or `average`; shapes as in `atrouscaffe.ops.pool.max_pool`."""
    from atrouscaffe.ops.packed_cuda import pool

    pool(packed_view(x), packed_view(y), x.shape, y.shape, windows, average)
