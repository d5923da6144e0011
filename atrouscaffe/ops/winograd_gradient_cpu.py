"""Compiled halves of the weights' gradient by Winograd's transforms (`winograd_gradient`)."""

from __future__ import annotations

import numpy as np

from atrouscaffe.ops.winograd_cpu import A, B
from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import memory, peek, poke, turn

__all__ = ["pack_tiles", "turn_tiles", "weight_gradients"]

_A2, _B2 = A * A, B * B


@jit
def turn_tiles(tiles, ldt, stride, channels, count, panels, at, panel_stride):
    """Write the values of up to 32 channels as a right operand whose k are tiles: ``panels[at + p * panel_stride +
    t * 32 + c]``.

    Rows and columns up to the next multiples of 8 are read and written.
    """
    source, target = memory(tiles), memory(panels)
    for p in range(36):
        for c in range(0, channels, 8):
            for t in range(0, count, 8):
                turn(source, p * stride + c * ldt + t, ldt, target, at + p * panel_stride + t * 32 + c, 32)


@jit
def pack_tiles(tiles, ldt, stride, rows, count, panels, at, height, panel_stride):
    """Write the values of some outputs as a block of a left operand whose k are tiles: ``panels[at + p * panel_stride +
    t * height + r]``; rows beyond `rows` become zeros."""
    source, target = memory(tiles), memory(panels)
    zero = np.float32(0)
    for p in range(36):
        for t in range(count):
            place = at + p * panel_stride + t * height
            for r in range(rows):
                poke(target, place + r, peek(source, p * stride + r * ldt + t))
            for r in range(rows, height):
                poke(target, place + r, zero)


@jit(inline="always")
def _points_to_taps(p0, p1, p2, p3, p4, p5):
    """Return G' p: the gradients of three taps."""
    near, far = 0.5 / (_A2 * (_A2 - _B2)), 0.5 / (_B2 * (_B2 - _A2))
    even = near * (p1 + p2)
    wide = far * (p3 + p4)
    return (p0 / (_A2 * _B2) + even + wide, near * A * (p1 - p2) + far * B * (p3 - p4), _A2 * even + _B2 * wide + p5)


@jit(inline="always")
def _line_taps(source, at, stride):
    """Return G' of six products that lie `stride` apart."""
    return _points_to_taps(peek(source, at), peek(source, at + stride), peek(source, at + 2 * stride),
                           peek(source, at + 3 * stride), peek(source, at + 4 * stride), peek(source, at + 5 * stride))


@jit
def weight_gradients(products, ld, stride, m0, m1, channels, gradient):
    """Add G' P G of outputs [m0, m1) to `gradient` (M, channels, 3, 3), flat; P lies as ``p * stride + m * ld + c``."""
    source, target = memory(products), memory(gradient)
    for m in range(m0, m1):
        for c in range(channels):
            at, to, line = m * ld + c, (m * channels + c) * 9, 6 * stride
            a, b, d = _line_taps(source, at, stride), _line_taps(source, at + line, stride), _line_taps(
                source, at + 2 * line, stride)
            e, f, g = _line_taps(source, at + 3 * line, stride), _line_taps(source, at + 4 * line, stride), _line_taps(
                source, at + 5 * line, stride)
            for x in range(3):
                taps = _points_to_taps(a[x], b[x], d[x], e[x], f[x], g[x])
                for y in range(3):
                    place = to + 3 * y + x
                    poke(target, place, np.float32(peek(target, place) + taps[y]))
