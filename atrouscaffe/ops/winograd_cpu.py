"""Compiled transforms of Winograd's convolution F(4x4, 3x3), vectors over 16 tiles of a row.

A tile of 4 by 4 outputs reads 6 by 6 inputs d: ``y = A' ((G g G') * (B' d B)) A`` (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", CVPR 2016), with the points 0, a, -a, b, -b and
infinity. ``a = 5/8, b = 3/2`` keep float32's error several times below that of the usual 1 and 2
(Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution", 2020).

Where a convolution has hole d, its outputs (y, x) with the same ``y mod d, x mod d`` read inputs that are
d apart as well: d*d sub-grids, each an ordinary 3x3 convolution. A row of ``rows`` is a line of tiles of one
sub-grid, 13 numbers: image; first input row and column; first output row and column; tiles; number of the first
tile; outputs along it; its inputs [low, high) of a line that lie inside the image; its lines [top, bottom) that
do; lines of outputs (`atrouscaffe.ops.winograd.tile_rows`).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import activation, address_of, load, memory, part, peek, poke, store

__all__ = ["LANES", "TILE", "WINDOW", "A", "B", "gather_gradients", "gather_tiles", "spread_tiles",
           "transform_weights"]

LANES = 16
TILE, WINDOW = 4, 6
A, B = 0.625, 1.5
_A2, _B2 = A * A, B * B
_KIND = ir.VectorType(ir.FloatType(), LANES)
_SIZE, _INT = ir.IntType(64), ir.IntType(32)
_ORDER = tuple(range(LANES))


class _Lanes:
    """Arithmetic on vectors of 16 numbers while code is emitted."""

    def __init__(self, builder) -> None:
        self.builder = builder

    def load(self, address, offset):
        return self.builder.load(self._place(address, offset), align=4)

    def store(self, value, address, offset):
        self.builder.store(value, self._place(address, offset), align=4)

    def _place(self, address, offset):
        offset = _SIZE(offset) if isinstance(offset, int) else offset
        return self.builder.bitcast(self.builder.gep(address, [offset]), _KIND.as_pointer())

    def pick(self, first, second, lanes):
        """Return the lanes (16 to 31 are those of `second`) of two vectors."""
        return self.builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_INT, LANES), list(lanes)))

    def add(self, x, y):
        return self.builder.fadd(x, y)

    def sub(self, x, y):
        return self.builder.fsub(x, y)

    def times(self, x, factor, plus=None):
        """Return ``x * factor + plus``."""
        constant = ir.Constant(_KIND, [factor] * LANES)
        product = self.builder.fmul(x, constant, flags=("contract",))
        return product if plus is None else self.builder.fadd(product, plus, flags=("contract",))


_EVEN, _ODD = range(0, 2 * LANES, 2), range(1, 2 * LANES, 2)


def _columns(lanes, line, offset):
    """Return the 6 columns of 16 tiles that begin at `offset` of a line: each tile reads 4 on and 2 of the next."""
    parts = [lanes.load(line, offset + LANES * i) for i in range(TILE)]
    following = lanes.load(line, offset + LANES * TILE)
    even = [lanes.pick(parts[i], parts[i + 1], _EVEN) for i in (0, 2)]
    odd = [lanes.pick(parts[i], parts[i + 1], _ODD) for i in (0, 2)]
    columns = [lanes.pick(*half, order) for order in (_EVEN, _ODD) for half in (even, odd)]
    return columns + [lanes.pick(columns[i], following, [*_ORDER[1:], LANES + i]) for i in (0, 1)]


_LOW = [LANES * (n % 2) + n // 2 for n in range(LANES)]
_PAIRS = [LANES * (n // 2 % 2) + n // 4 * 2 + n % 2 for n in range(LANES)]


def _interleaved(lanes, columns):
    """Return 64 outputs of which each vector holds every fourth, in order."""
    found = []
    for half in (0, LANES // 2):
        first, second = (lanes.pick(*columns[i:i + 2], [n + half for n in _LOW]) for i in (0, 2))
        found += [lanes.pick(first, second, [n + quarter for n in _PAIRS]) for quarter in (0, LANES // 2)]
    return found


def _to_points(lanes, d):
    """Return B' d: 6 values at the 6 points."""
    e1, e2 = lanes.times(d[2], -_B2, d[4]), lanes.times(d[2], -_A2, d[4])
    o1 = lanes.times(d[3], A, lanes.times(d[1], -A * _B2))
    o2 = lanes.times(d[3], B, lanes.times(d[1], -B * _A2))
    first = lanes.times(d[0], _A2 * _B2, lanes.times(d[2], -(_A2 + _B2), d[4]))
    last = lanes.times(d[1], _A2 * _B2, lanes.times(d[3], -(_A2 + _B2), d[5]))
    return [first, lanes.add(e1, o1), lanes.sub(e1, o1), lanes.add(e2, o2), lanes.sub(e2, o2), last]


def _gradient_to_points(lanes, y):
    """Return A y: 4 gradients of outputs at the 6 points."""
    e1, e2 = lanes.times(y[2], _A2, y[0]), lanes.times(y[2], _B2, y[0])
    o1 = lanes.times(lanes.times(y[3], _A2, y[1]), A)
    o2 = lanes.times(lanes.times(y[3], _B2, y[1]), B)
    return [y[0], lanes.add(e1, o1), lanes.sub(e1, o1), lanes.add(e2, o2), lanes.sub(e2, o2), y[3]]


def _from_points(lanes, m):
    """Return A' m: 4 outputs of the values at the 6 points."""
    s1, d1, s2, d2 = lanes.add(m[1], m[2]), lanes.sub(m[1], m[2]), lanes.add(m[3], m[4]), lanes.sub(m[3], m[4])
    return [lanes.add(lanes.add(m[0], s1), s2), lanes.times(d1, A, lanes.times(d2, B)),
            lanes.times(s1, _A2, lanes.times(s2, _B2)),
            lanes.times(d1, A * _A2, lanes.times(d2, B * _B2, m[5]))]


@intrinsic(prefer_literal=True)
def _tiles_in(typingctx, window, across, line, step, hole, target, at, stride):
    """Write the values at the points of 16 tiles, whose rows are `step` apart, to 36 places of `target`.

    A `window` of 6 are inputs, B' d B; one of 4 are gradients of outputs, A d A'. The places are `stride` apart.

    The tiles follow one another along the line, or (`across`) the lanes are the sub-grids of a large hole, whose
    columns are `hole` apart.
    """

    def code(context, builder, signature, args):
        lanes, rows, size = _Lanes(builder), [], window.literal_value
        to_points = _to_points if size == WINDOW else _gradient_to_points
        for i in range(size):
            row = address_of(context, builder, signature.args[2], args[2], builder.mul(args[3], _SIZE(i)))
            columns = ([lanes.load(row, builder.mul(args[4], _SIZE(j))) for j in range(size)] if across.literal_value
                       else _columns(lanes, row, 0))
            rows.append(to_points(lanes, columns[:size]))
        out = address_of(context, builder, signature.args[5], args[5], args[6])
        for j in range(WINDOW):
            for i, value in enumerate(to_points(lanes, [row[j] for row in rows])):
                lanes.store(value, out, builder.mul(args[7], _SIZE(i * WINDOW + j)))
        return context.get_dummy_value()

    place = types.intp
    return types.void(window, across, line, place, place, target, place, place), code


@intrinsic(prefer_literal=True)
def _tiles_out(typingctx, across, source, at, stride, line, step, hole, shift, slope, cap, act):
    """Write act(A' m A + shift) of 16 tiles to 4 rows, `step` apart, of 64 outputs, or (`across`) of 4 `hole` outputs.

    There the lanes beyond the hole are written over, or lie behind the last ones.
    """

    def code(context, builder, signature, args):
        lanes = _Lanes(builder)
        place = address_of(context, builder, signature.args[1], args[1], args[2])
        target = address_of(context, builder, signature.args[4], args[4], _SIZE(0))

        def splat(number):
            one = builder.insert_element(ir.Constant(_KIND, ir.Undefined), number, _INT(0))
            return lanes.pick(one, one, [0] * LANES)

        shift, slope, cap = splat(args[7]), splat(args[8]), splat(args[9])
        acts, positive = (builder.icmp_signed("==" if n else "!=", args[10], _SIZE(n)) for n in (0, 1))
        columns = [_from_points(lanes, [lanes.load(place, builder.mul(args[3], _SIZE(i * WINDOW + j)))
                                        for i in range(WINDOW)]) for j in range(WINDOW)]
        rows = []
        for i in range(TILE):
            row = []
            for value in _from_points(lanes, [column[i] for column in columns]):
                value = lanes.add(value, shift)
                row.append(builder.select(acts, activation(builder, value, slope, cap, positive), value))
            rows.append(row)
        for i, row in enumerate(rows):
            start = builder.gep(target, [builder.mul(args[5], _SIZE(i))])
            if across.literal_value:
                for j, value in enumerate(row):
                    lanes.store(value, start, builder.mul(args[6], _SIZE(j)))
            else:
                for j, value in enumerate(_interleaved(lanes, row)):
                    lanes.store(value, start, LANES * j)
        return context.get_dummy_value()

    size, one = types.intp, types.float32
    return types.void(across, source, size, size, line, size, size, one, one, one, size), code


@jit(inline="always")
def _copy(source, at, hole, target, to, count):
    """Copy `count` numbers, `hole` apart in the source."""
    if hole == 1:
        whole = count // 16 * 16
        for x in range(0, whole, 16):
            store(target, to + x, load(source, at + x, 16))
        for x in range(whole, count):
            poke(target, to + x, peek(source, at + x))
    else:
        for x in range(count):
            poke(target, to + x, peek(source, at + x * hole))


@jit(inline="always")
def _clear(target, to, count):
    zero = np.float32(0)
    for x in range(count):
        poke(target, to + x, zero)


def _gather(window):
    @jit
    def gather(images, shape, rows, first, last, c0, c1, hole, across, tiles, at_tiles, ldt, stride, lines):
        channels, height, width = shape
        step = lines.size // window
        source, target, pixels = memory(lines), memory(tiles), memory(images)
        start, apart = rows[first, 6], 1 if across else hole
        for c in range(c0, c1):
            for r in range(first, last):
                count, low, high, top, bottom = rows[r, 5], rows[r, 8], rows[r, 9], rows[r, 10], rows[r, 11]
                length = window * hole if across else 4 * count + window - 4
                corner = ((rows[r, 0] * channels + c) * height + rows[r, 1]) * width + rows[r, 2] + low * apart
                for i in range(window):
                    if top <= i < bottom:
                        _clear(source, i * step, low)
                        _copy(pixels, corner + i * hole * width, apart, source, i * step + low, high - low)
                        _clear(source, i * step + high, length - high)
                    else:
                        _clear(source, i * step, length)
                for t in range(0, count, 16):
                    place = at_tiles + (c - c0) * ldt + rows[r, 6] - start + t
                    if across:
                        _tiles_in(window, True, part(source, t), step, hole, target, place, stride)
                    else:
                        _tiles_in(window, False, part(source, 4 * t), step, hole, target, place, stride)

    gather.__doc__ = """Write the values at the points of channels [c0, c1) of the tile rows [first, last).

    Parameters
    ----------
    images : float32 array, flat
    shape : (channels, height, width)
    rows : (R, 13) int64
    hole : int
    across : bool
    tiles : float32 array
        Value p of tile t of channel c lies at ``at_tiles + p * stride + (c - c0) * ldt + t``; t counts from the first
        tile of row `first`.
    lines : float32 array
        Scratch of as many lines as a tile reads, each at least the longest row's pixels, rounded up to tiles of 16,
        and 16 more.
    """
    return gather


gather_tiles = _gather(6)
gather_gradients = _gather(4)


@jit
def spread_tiles(tiles, at_tiles, ldt, stride, m0, m1, rows, first, last, hole, across, out, shape, bias, slope, cap,
                 act, lines):
    """Write act(A' m A + bias) of outputs [m0, m1) of the tile rows [first, last).

    Parameters
    ----------
    tiles : float32 array
        Value p of tile t of output m lies at ``at_tiles + p * stride + (m - m0) * ldt + t``.
    out : float32 array, flat
    shape : (outputs, height, width)
    bias, slope : (outputs,) float32
    cap : float32
    act : int
        0: none; 1: 0 for values below 0, and no more than `cap`; 2: there the value times `slope`.
    lines : float32 array
        Scratch of 4 lines: of 64, or where `across` of 4 times the hole, rounded up to 16, and 16.
    """
    outputs, height, width = shape
    step = lines.size // 4
    source, buffer, target = memory(tiles), memory(lines), memory(out)
    start, apart = rows[first, 6], 1 if across else hole
    for m in range(m0, m1):
        for r in range(first, last):
            corner = ((rows[r, 0] * outputs + m) * height + rows[r, 3]) * width + rows[r, 4]
            length, high = rows[r, 7], rows[r, 12]
            for t in range((rows[r, 5] - 1) // 16 * 16, -16, -16):  # earlier lanes write over those beyond a hole
                place = at_tiles + (m - m0) * ldt + rows[r, 6] - start + t
                if across:
                    _tiles_out(True, source, place, stride, part(buffer, t), step, hole, bias[m], slope[m], cap, act)
                    continue
                count, at = min(64, length - 4 * t), corner + 4 * t * apart
                if hole == 1 and count == 64 and high == 4:
                    _tiles_out(False, source, place, stride, part(target, at), width, 1, bias[m], slope[m], cap, act)
                    continue
                _tiles_out(False, source, place, stride, buffer, step, 1, bias[m], slope[m], cap, act)
                for i in range(high):
                    for x in range(count):
                        poke(target, at + i * hole * width + x * apart, peek(buffer, step * i + x))
            if across:
                for i in range(high):
                    _copy(buffer, step * i, 1, target, corner + i * hole * width, length)


def _turned_over(lanes, rows):
    """Return the columns of 16 vectors."""
    for s in (8, 4, 2, 1):  # swap the blocks of s by s beside the diagonal
        first = [LANES + n - s if n & s else n for n in _ORDER]
        second = [LANES + n if n & s else n + s for n in _ORDER]
        for r in range(LANES):
            if not r & s:
                a, b = rows[r], rows[r + s]
                rows[r], rows[r + s] = lanes.pick(a, b, first), lanes.pick(a, b, second)
    return rows


def _taps_to_points(lanes, g):
    """Return G g: 3 taps at the 6 points."""
    near, far = 0.5 / (_A2 * (_A2 - _B2)), 0.5 / (_B2 * (_B2 - _A2))
    e1, e2 = (lanes.times(lanes.times(g[2], square, g[0]), scale) for square, scale in ((_A2, near), (_B2, far)))
    o1, o2 = lanes.times(g[1], near * A), lanes.times(g[1], far * B)
    return [lanes.times(g[0], 1 / (_A2 * _B2)), lanes.add(e1, o1), lanes.sub(e1, o1), lanes.add(e2, o2),
            lanes.sub(e2, o2), g[2]]


@intrinsic
def _weights_in(typingctx, weight, at, step, backwards, nothing, real, height, panels, place, stride):
    """Write G g G' of `height` outputs, of which `real` have weights, to 36 places of `panels` that are `stride` apart.

    The nine taps of output r lie at ``at + r * step``; `nothing` holds zeros.
    """

    def code(context, builder, signature, args):
        lanes, bit = _Lanes(builder), ir.IntType(1)
        mask_type = ir.VectorType(bit, LANES)
        masked = cgutils.get_or_insert_function(builder.module, ir.FunctionType(
            _KIND, [_KIND.as_pointer(), _INT, mask_type, _KIND]), "llvm.masked.load.v16f32.p0v16f32")
        write = cgutils.get_or_insert_function(builder.module, ir.FunctionType(
            ir.VoidType(), [_KIND, _KIND.as_pointer(), _INT, mask_type]), "llvm.masked.store.v16f32.p0v16f32")
        nine = ir.Constant(mask_type, [bit(int(n < 9)) for n in _ORDER])
        zeros = address_of(context, builder, signature.args[4], args[4], _SIZE(0))
        rows = []
        for r in range(LANES):
            source = address_of(context, builder, signature.args[0], args[0],
                                builder.add(args[1], builder.mul(args[2], _SIZE(r))))
            there = builder.select(builder.icmp_signed("<", _SIZE(r), args[5]), source, zeros)
            rows.append(builder.call(masked, [builder.bitcast(there, _KIND.as_pointer()), _INT(4), nine,
                                              ir.Constant(_KIND, None)]))
        taps = _turned_over(lanes, rows)[:9]
        taps = [builder.select(args[3], taps[8 - n], taps[n]) for n in range(9)]
        lines = [_taps_to_points(lanes, [taps[3 * y + x] for y in range(3)]) for x in range(3)]
        one = builder.insert_element(ir.Constant(ir.VectorType(_SIZE, LANES), ir.Undefined), args[6], _INT(0))
        heights = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT, LANES), None))
        inside = builder.icmp_signed("<", ir.Constant(ir.VectorType(_SIZE, LANES), list(_ORDER)), heights)
        out = address_of(context, builder, signature.args[7], args[7], args[8])
        for y in range(WINDOW):
            for x, value in enumerate(_taps_to_points(lanes, [line[y] for line in lines])):
                target = builder.gep(out, [builder.mul(args[9], _SIZE(y * WINDOW + x))])
                builder.call(write, [value, builder.bitcast(target, _KIND.as_pointer()), _INT(4), inside])
        return context.get_dummy_value()

    size = types.intp
    return types.void(weight, size, size, types.boolean, nothing, size, size, panels, size, size), code


@jit
def transform_weights(weight, steps, backwards, channels, blocks, first, last, panels, stride):
    """Write G g G' of the blocks of rows [first, last) into 36 packed panels, `stride` apart.

    Parameters
    ----------
    weight : float32 array, flat
    steps : (int, int)
        From one output and from one channel to the next.
    backwards : bool
        Take the nine taps backwards, as the data gradient does.
    channels : int
    blocks : (B, 3) int64
        As for `atrouscaffe.ops.product_cpu.multiply`.
    panels : float32 array, flat, written
    """
    m_step, c_step = steps
    nothing = np.zeros(16, np.float32)
    source, target, zeros = memory(weight), memory(panels), memory(nothing)
    for i in range(first, last):
        row, height, real = blocks[i, 0], blocks[i, 1], blocks[i, 2]
        for c in range(channels):
            _weights_in(source, row * m_step + c * c_step, m_step, backwards, zeros, real, height, target,
                        row * channels + c * height, stride)
    nothing[0] = 0  # the array must live until here
