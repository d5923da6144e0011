"""The direct kernel: a convolution whose right operand is read from the image itself.

As in `product_cpu`, a block of registers takes ``sum_k A[m, k] B[k, n]``, R rows by V vectors of 16 numbers. Row k of
B, one channel seen through one tap, begins at ``offsets[k]`` in memory: the taps of a row of outputs are the
same pixels at other places, so nothing is copied for each tap. Where a window has pads or strides, the rows that it
reads are laid out first in a *room*, zeros around them, every stride-th column side by side::

    row of 7 pixels, pad 1, stride 2:    0 1 2 3 4 5 6   ->   . 1 3 5 .  |  0 2 4 6 .

What follows a convolution is done in the registers, before the only store.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from atrouscaffe.ops.product_cpu import ROWS, WIDTH
from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import (
    activation,
    fill,
    interleave,
    load,
    memory,
    part,
    peek,
    poke,
    splat,
    store,
    unzip,
)

__all__ = ["ALONE", "NARROW", "convolve", "spread"]

NARROW = 16
ALONE = 64
"""Columns of a block of one row."""
_TALL, _MIDDLE, _LOW = ROWS
_VECTORS = WIDTH // NARROW
_KIND = ir.VectorType(ir.FloatType(), NARROW)
_SIZE = ir.IntType(64)


def _vector(builder, pointer, v):
    return builder.bitcast(builder.gep(pointer, [_SIZE(NARROW * v)]), _KIND.as_pointer())


def _sums(builder, rows, vectors, a, b, offsets, count):
    """Emit the loop over k; return the sums, row by row."""
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_KIND, [_KIND] * 3), "llvm.fmuladd.v16f32")
    before, loop = builder.block, builder.append_basic_block("k")
    after = builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, at_a = builder.phi(_SIZE), builder.phi(a.type)
    sums = [builder.phi(_KIND) for _ in range(rows * vectors)]
    line = builder.gep(b, [builder.load(builder.gep(offsets, [k]))])
    lines = [builder.load(_vector(builder, line, v), align=4) for v in range(vectors)]
    grown = []
    for r in range(rows):
        weight = splat(builder, _KIND, builder.load(builder.gep(at_a, [_SIZE(r)])))
        grown += [builder.call(fma, [weight, lines[v], sums[r * vectors + v]]) for v in range(vectors)]
    following = builder.add(k, _SIZE(1))
    for phi, start, step in ((k, _SIZE(0), following), (at_a, a, builder.gep(at_a, [_SIZE(rows)])),
                             *((s, ir.Constant(_KIND, None), g) for s, g in zip(sums, grown))):
        phi.add_incoming(start, before)
        phi.add_incoming(step, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return grown


@intrinsic(prefer_literal=True)
def _block(typingctx, rows, vectors, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real):
    """Write the first `real` rows of a block of C: sums over `count` k, bias, base, activation."""
    height, across = rows.literal_value, vectors.literal_value

    def code(context, builder, signature, args):
        _, _, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real = args
        sums = _sums(builder, height, across, a, b, offsets, count)
        ceiling = splat(builder, _KIND, cap)
        end = builder.append_basic_block("end")
        for r in range(height):
            if r:
                further = builder.append_basic_block("row")
                builder.cbranch(builder.icmp_signed(">", real, _SIZE(r)), further, end)
                builder.position_at_end(further)
            shift = splat(builder, _KIND, builder.load(builder.gep(bias, [_SIZE(r)])))
            steep = splat(builder, _KIND, builder.load(builder.gep(slope, [_SIZE(r)])))
            row, under = (builder.gep(p, [builder.mul(step, _SIZE(r))]) for p, step in ((c, ldc), (base, ldbase)))
            for v in range(across):
                there = builder.load(_vector(builder, under, v), align=4)
                value = builder.fadd(builder.fadd(sums[r * across + v], shift), there)
                builder.store(activation(builder, value, steep, ceiling, positive), _vector(builder, row, v), align=4)
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    size = types.intp
    return types.void(rows, vectors, a, b, offsets, size, c, size, base, size, bias, slope, cap, types.boolean,
                      size), code


@jit
def _put(rows, columns, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real):
    """Write one block of `rows` rows and `columns` columns."""
    if rows == 1:
        if columns == ALONE:
            _block(1, 4, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)
        else:
            _block(1, 1, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)
    elif columns == WIDTH:
        if rows == _TALL:
            _block(_TALL, _VECTORS, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)
        elif rows == _MIDDLE:
            _block(_MIDDLE, _VECTORS, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)
        else:
            _block(_LOW, _VECTORS, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)
    elif rows == _TALL:
        _block(_TALL, 1, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)
    elif rows == _MIDDLE:
        _block(_MIDDLE, 1, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)
    else:
        _block(_LOW, 1, a, b, offsets, count, c, ldc, base, ldbase, bias, slope, cap, positive, real)


@jit
def _lay_out(source, at, across, room, to, width, stride, pad):
    """Lay out one row of `across` pixels: every stride-th column side by side, in `stride` runs of `width`."""
    done = 0
    if stride == 1 and across >= NARROW:
        for x in range(0, across - NARROW, NARROW):
            store(room, to + pad + x, load(source, at + x, 16))
        store(room, to + pad + across - NARROW, load(source, at + across - NARROW, 16))
        return
    if stride == 2:
        even, odd = to + (pad % 2) * width + pad // 2, to + ((pad + 1) % 2) * width + (pad + 1) // 2
        while done + 2 * NARROW <= across:
            unzip(source, at + done, room, even + done // 2, odd + done // 2)
            done += 2 * NARROW
    for x in range(done, across):
        place = x + pad
        poke(room, to + place % stride * width + place // stride, peek(source, at + x))


@jit
def _fill(source, at, size, first, rows, stride, pad, room, planes, width):
    """Lay out `rows` rows of some planes, from row `first` of the image on, zeros where the image has no pixel."""
    height, across = size
    empty = fill(np.float32(0), 16)
    for plane in range(planes):
        for y in range(first, first + rows):
            to = (plane * rows + y - first) * stride * width
            inside = 0 <= y < height
            skipped = (pad + across) // NARROW * NARROW if inside and stride == 1 and across >= NARROW else 0
            for x in range(0, pad if skipped else 0, NARROW):
                store(room, to + x, empty)
            for x in range(skipped, stride * width, NARROW):
                store(room, to + x, empty)
            if not inside:
                continue
            _lay_out(source, at + (plane * height + y) * across, across, room, to, width, stride, pad)


@jit
def convolve(x, y, base, room, panels, blocks, offsets, bias, slope, edge, place, shape, geo, room_shape, based,
             positive, cap):
    """Write some rows of the outputs of some groups of channels.

    Parameters
    ----------
    x, y : float32 arrays, flat
    base : float32 array, flat
        Added where `based`, of the shape of y; else `ALONE` zeros.
    room : float32 array
        For the rows that the outputs read.
    panels : float32 array
        Packed weights, one group after another.
    blocks : (B, 3) int64
        Of each block of outputs in a group: the first, how many, how many of these exist.
    offsets : (K,) int64
        Where row k of the right operand begins.
    bias, slope : (M + height of a block,) float32
    edge : float32 array
        A block; for rows shorter than a vector.
    place : (image, first group, last group, first row, last row)
    shape : (C, H, W, M, out_h, out_w, pixels, groups)
        `pixels` of a plane of y: the last row may be shorter or longer.
    geo : (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w)
    room_shape : (rows, width, margin)
        Rows of a plane in `room`, length of a run in them, a multiple of 16, and where the first pixel lies; 0 rows: x
        itself is read.
    based, positive : bool
        `positive` says that values below 0 become 0; else they are multiplied by the slope.
    cap : float32
    """
    n, g0, g1, row0, row1 = place
    channels, height, width, outputs, out_h, out_w, pixels, groups = shape
    per_in, per_out = channels // groups, outputs // groups
    rows, run, margin = room_shape
    x_, y_, base_, room_, edge_ = memory(x), memory(y), memory(base), memory(room), memory(edge)
    panels_, bias_, slope_, offsets_ = memory(panels), memory(bias), memory(slope), memory(offsets)
    depth, last = offsets.size, blocks.shape[0] - 1
    panel = (blocks[last, 0] + blocks[last, 1]) * depth
    for g in range(g0, g1):
        begin = (n * channels + g * per_in) * height * width
        if rows:
            _fill(x_, begin, (height, width), row0 * geo[2] - geo[4], rows, geo[3], margin, room_, per_in, run)
        for oy in range(row0, row1):
            columns = out_w if oy + 1 < out_h else pixels - oy * out_w
            line = part(room_, (oy - row0) * geo[2] * geo[3] * run) if rows else part(x_, begin + oy * out_w)
            for i in range(blocks.shape[0]):
                first, tall, real = blocks[i, 0], blocks[i, 1], blocks[i, 2]
                m = g * per_out + first
                out = (n * outputs + m) * pixels + oy * out_w
                a = part(panels_, g * panel + first * depth)
                full = ALONE if tall == 1 else WIDTH
                j = 0
                while j < columns:
                    left = columns - j
                    if left >= full or (left > NARROW and tall > 1 and columns >= full):
                        wide = full
                    else:
                        wide = NARROW
                    if columns < NARROW:
                        for r in range(real if based else 0):
                            for c in range(columns):
                                poke(edge_, r * NARROW + c, peek(base_, out + r * pixels + c))
                        _put(tall, NARROW, a, line, offsets_, depth, edge_, NARROW, edge_ if based else base_,
                             NARROW if based else 0, part(bias_, m), part(slope_, m), cap, positive, real)
                        for r in range(real):
                            for c in range(columns):
                                poke(y_, out + r * pixels + c, peek(edge_, r * NARROW + c))
                    else:
                        j = min(j, columns - wide)  # what was written is written again, the same
                        _put(tall, wide, a, part(line, j), offsets_, depth, part(y_, out + j), pixels,
                             part(base_, out + j) if based else base_, pixels if based else 0, part(bias_, m),
                             part(slope_, m), cap, positive, real)
                    j += wide


@jit
def spread(x, y, zeros, room, lines, panels, blocks, offsets, starts, bias, slope, place, shape, pads, room_shape,
           positive, cap):
    """Write some rows of the outputs of a transposed convolution, for some groups of channels.

    Outputs whose places leave the same rest when divided by the stride, one *phase*, are an ordinary convolution with
    those taps that meet pixels there: ``starts`` says where each phase's taps begin. All phases of a row of outputs
    are written to `lines` and woven into y.

    Parameters
    ----------
    x, y : float32 arrays, flat
    zeros : float32 array
        `ALONE` zeros.
    room, lines : float32 arrays
        For the rows that are read, and those that are written.
    panels : float32 array
        Packed weights: for each group, phase after phase.
    blocks : (B, 3) int64
        As in `convolve`.
    offsets : (K,) int64
        Where row k of the right operand begins, phase after phase.
    starts : (phases + 1,) int64
    bias, slope : (M + height of a block,) float32
    place : (image, first group, last group, first, last)
        `first` and `last` of rows, counted in strides.
    shape : (C, H, W, M, out_h, out_w, groups, stride_h, stride_w)
    pads : (int, int)
        Zeros above and on the left of the rows that are read.
    room_shape : (rows, width, length)
        As in `convolve`; `length` of a row in `lines`.
    positive : bool
    cap : float32
    """
    n, g0, g1, q0, q1 = place
    channels, height, width, outputs, out_h, out_w, groups, stride_h, stride_w = shape
    per_in, per_out = channels // groups, outputs // groups
    rows, run, length = room_shape
    x_, y_, zeros_, room_, lines_ = memory(x), memory(y), memory(zeros), memory(room), memory(lines)
    panels_, bias_, slope_, offsets_ = memory(panels), memory(bias), memory(slope), memory(offsets)
    last = blocks.shape[0] - 1
    padded, columns = blocks[last, 0] + blocks[last, 1], (out_w + stride_w - 1) // stride_w
    for g in range(g0, g1):
        _fill(x_, (n * channels + g * per_in) * height * width, (height, width), q0 - pads[0], rows, 1, pads[1], room_,
              per_in, run)
        for oy in range(q0 * stride_h, min(out_h, q1 * stride_h)):
            line = part(room_, (oy // stride_h - q0) * run)
            for rx in range(stride_w):
                phase = oy % stride_h * stride_w + rx
                start, depth = starts[phase], starts[phase + 1] - starts[phase]
                for i in range(blocks.shape[0]):
                    first, tall, real = blocks[i, 0], blocks[i, 1], blocks[i, 2]
                    m = g * per_out + first
                    a = part(panels_, (g * offsets.size + start) * padded + first * depth)
                    full = ALONE if tall == 1 else WIDTH
                    j = 0
                    while j < columns:
                        wide = full if columns - j >= full else NARROW
                        _put(tall, wide, a, part(line, j), part(offsets_, start), depth,
                             part(lines_, (first * stride_w + rx) * length + j), stride_w * length, zeros_, 0,
                             part(bias_, m), part(slope_, m), cap, positive, real)
                        j += wide
            for m in range(per_out):
                _weave(lines_, m * stride_w * length, length, stride_w, y_,
                       ((n * outputs + g * per_out + m) * out_h + oy) * out_w, out_w)


@jit
def _weave(lines, at, length, stride, y, to, count):
    """Write `count` numbers of a row of y, in turns from `stride` lines."""
    done = 0
    if stride == 2:
        while done + 2 * NARROW <= count:
            interleave(lines, at + done // 2, at + length + done // 2, y, to + done)
            done += 2 * NARROW
    for x in range(done, count):
        poke(y, to + x, peek(lines, at + x % stride * length + x // stride))
