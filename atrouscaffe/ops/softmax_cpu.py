"""Compiled half of `softmax`."""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import add, div, exp, fill, load, maximum, memory, mul, or_nan, part, store, sub

__all__ = ["softmax_pixels"]


@jit
def softmax_pixels(x, y, room, at, first, last, channels, inner, tile):
    """Write the softmax over `channels` of pixels [first, last), at least 16, of one image; y may be x.

    Parameters
    ----------
    x, y : float32 arrays, flat
    room : (channels * tile,) float32
    at : int
        Where the image begins.
    inner : int
        Pixels of an image: from one channel to the next one's.
    tile : int
        Most pixels to work on at a time, a multiple of 16, at least 32.
    """
    x_, y_, room_ = memory(x), memory(y), memory(room)
    tiles = (last - first + tile - 1) // tile
    for i in range(tiles):
        begin = first + i * (last - first) // tiles
        count = first + (i + 1) * (last - first) // tiles - begin
        for v in range(0, count, 16):
            # the last vector of a tile begins earlier where it would reach beyond the pixels; x is still there, since
            # nothing is written before the whole tile was read
            p = min(v, count - 16)
            source = part(x_, at + begin + p)
            top = load(source, 0, 16)
            for c in range(channels):
                value = load(source, c * inner, 16)
                top = maximum(value, top)
                store(room_, c * tile + v, value)
            total = fill(np.float32(0), 16)
            for c in range(channels):
                value = sub(load(room_, c * tile + v, 16), top)
                value = or_nan(value, exp(value))
                total = add(total, value)
                store(room_, c * tile + v, value)
            share = div(fill(np.float32(1), 16), total)
            for c in range(channels):
                store(room_, c * tile + v, mul(load(room_, c * tile + v, 16), share))
        for c in range(channels):
            goal = part(y_, at + begin + c * inner)
            for v in range(0, count, 16):
                p = min(v, count - 16)
                store(goal, p, load(room_, c * tile + v, 16))
