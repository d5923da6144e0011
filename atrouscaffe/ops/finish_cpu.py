"""What follows a layer, done to a whole blob in one pass: sum, scale and shift by channel, activation."""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import acted, add, fill, load, memory, muladd, peek, poke, store

__all__ = ["finish_planes"]


@jit
def finish_planes(x, base, y, planes, span, inner, scale, shift, slope, cap, based, positive):
    """Write ``act((x + base) * scale + shift)`` for elements `span` of some planes; y may be x or base.

    Parameters
    ----------
    x, base, y : (planes * inner,) float32
        The base counts where `based`.
    planes : (first, last)
    span : (first, last)
        Elements of each plane.
    inner : int
        Elements of a plane.
    scale, shift, slope : (C,) float32
        By channel; a plane's channel is its number modulo C.
    cap : float32
    based, positive : bool
        `positive` says that values below 0 become 0; else they are multiplied by the slope.
    """
    x_, base_, y_, ceiling = memory(x), memory(base), memory(y), fill(cap, 16)
    for p in range(planes[0], planes[1]):
        c = p % scale.size
        factor, offset, steep = fill(scale[c], 16), fill(shift[c], 16), fill(slope[c], 16)
        at, stop = p * inner + span[0], p * inner + span[1]
        while at + 16 <= stop:
            value = load(x_, at, 16)
            if based:
                value = add(value, load(base_, at, 16))
            store(y_, at, acted(muladd(value, factor, offset), steep, ceiling, positive))
            at += 16
        while at < stop:
            number = peek(x_, at)
            if based:
                number += peek(base_, at)
            number = number * scale[c] + shift[c]
            if number < 0:
                number = np.float32(0) if positive else number * slope[c]
            poke(y_, at, cap if number > cap else number)
            at += 1
