"""Vectors of a fixed number of lanes inside compiled functions.

Numba's own loops over labels come out partly scalar, because LLVM cannot prove that arrays do not
overlap. These intrinsics name the vector operations outright, and LLVM cuts them into what the
processor has: SSE, AVX2, AVX-512, NEON. Offsets are in elements from the start of a contiguous
array and are not checked.

A vector of 24 lanes is a struct of 16 and 8: LLVM carries vectors whose length is no power of two
from one block to the next lane by lane, which costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

__all__ = ["Vector", "acted", "activation", "add", "address_of", "div", "exp", "fill", "gather", "interleave", "less",
           "load", "maximum", "memory", "memory_at", "minimum", "mul", "muladd", "nan_flags", "or_nan", "part", "peek",
           "poke", "prefetch", "rint", "splat", "store", "sub", "turn", "unzip", "widest"]

_FLOATS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_INDEX = ir.IntType(32)


class Vector(types.Type):
    """Type of a value of `lanes` floating point numbers held in registers."""

    def __init__(self, lanes: int, dtype: types.Type) -> None:
        self.lanes, self.dtype = lanes, dtype
        self.cuts = tuple(min(16, lanes - at) for at in range(0, lanes, 16))
        super().__init__(f"Vector({lanes} x {dtype})")

    @property
    def part_types(self) -> list[ir.VectorType]:
        """LLVM types of the parts."""
        return [ir.VectorType(_FLOATS[self.dtype], cut) for cut in self.cuts]


@register_default(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, ir.LiteralStructType(fe_type.part_types))


def _parts(builder, value) -> list:
    return [builder.extract_value(value, i) for i in range(len(value.type.elements))]


def _pack(builder, parts):
    value = ir.Constant(ir.LiteralStructType([part.type for part in parts]), ir.Undefined)
    for i, part in enumerate(parts):
        value = builder.insert_value(value, part, i)
    return value


def _each(operation: Callable) -> Callable:
    """Return code that applies ``operation(builder, *parts)`` to each part of the arguments."""

    def code(context, builder, signature, args):
        return _pack(builder, [operation(builder, *parts) for parts in zip(*(_parts(builder, arg) for arg in args))])

    return code


def _constant(vector_type, value):
    return ir.Constant(vector_type, [value] * vector_type.count)


def _call(builder, name, *args):
    """Call the LLVM intrinsic `name`, overloaded on the type of `args`, all vectors alike."""
    kind = args[0].type
    element = "f32" if isinstance(kind.element, ir.FloatType) else "f64"
    function_type = ir.FunctionType(kind, [kind] * len(args))
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.v{kind.count}{element}")
    return builder.call(function, args)


def address_of(context, builder, array_type, array, offset):
    """Return the address of element `offset` of a contiguous array or of memory."""
    if isinstance(array_type, types.CPointer):
        return builder.gep(array, [offset])
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _part_addresses(builder, address, kinds):
    """Yield (pointer, part number) of the parts that lie one behind the other from `address` on."""
    at = 0
    for i, kind in enumerate(kinds):
        place = builder.gep(address, [ir.Constant(ir.IntType(64), at)])
        yield builder.bitcast(place, kind.as_pointer()), i
        at += kind.count


@intrinsic(prefer_literal=True)
def load(typingctx, array, offset, lanes):
    """Return `lanes` elements of `array` from `offset` on."""
    result = Vector(lanes.literal_value, array.dtype)

    def code(context, builder, signature, args):
        address = address_of(context, builder, signature.args[0], args[0], args[1])
        return _pack(builder, [builder.load(pointer, align=array.dtype.bitwidth // 8)
                               for pointer, _ in _part_addresses(builder, address, result.part_types)])

    return result(array, types.intp, lanes), code


@intrinsic
def store(typingctx, array, offset, vector):
    """Write `vector` to `array` from `offset` on."""

    def code(context, builder, signature, args):
        address = address_of(context, builder, signature.args[0], args[0], args[1])
        parts = _parts(builder, args[2])
        for pointer, i in _part_addresses(builder, address, vector.part_types):
            builder.store(parts[i], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), code


@intrinsic
def peek(typingctx, array, offset):
    """Return one element, without the test for a negative index."""

    def code(context, builder, signature, args):
        return builder.load(address_of(context, builder, signature.args[0], *args))

    return array.dtype(array, types.intp), code


@intrinsic
def poke(typingctx, array, offset, value):
    """Write one element, without the test for a negative index."""

    def code(context, builder, signature, args):
        builder.store(args[2], address_of(context, builder, signature.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), code


@intrinsic
def memory_at(typingctx, sample, address):
    """Return the memory at `address` as numbers of the type of those in the array `sample`.

    `peek`, `poke`, `load` and `store` take it in place of an array. Whoever owns it must keep it. A
    table of addresses may have any number of rows, and is compiled once for all; tuples of arrays are
    compiled for each length, and arrays taken from them are counted in every loop.
    """

    def code(context, builder, signature, args):
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return types.CPointer(sample.dtype)(sample, types.int64), code


@intrinsic
def memory(typingctx, array):
    """Return what a contiguous array holds, as `memory_at` does: it is passed on without being counted."""

    def code(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), code


@intrinsic
def part(typingctx, held, offset):
    """Return memory from element `offset` on."""

    def code(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return held(held, types.intp), code


@intrinsic
def prefetch(typingctx, array, offset):
    """Ask for the cache line of an element that will be read soon; it need not exist."""

    def code(context, builder, signature, args):
        pointer = builder.bitcast(address_of(context, builder, signature.args[0], *args), ir.IntType(8).as_pointer())
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, _INDEX, _INDEX, _INDEX])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0i8")
        builder.call(function, [pointer, _INDEX(0), _INDEX(3), _INDEX(1)])  # read, keep it close, data
        return context.get_dummy_value()

    return types.void(array, types.intp), code


def splat(builder, kind, number):
    """Emit an LLVM vector of type `kind` whose lanes are all `number`."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(_INDEX, 0))
    mask = ir.Constant(ir.VectorType(_INDEX, kind.count), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)


@intrinsic(prefer_literal=True)
def fill(typingctx, value, lanes):
    """Return a vector whose lanes are all `value`."""
    result = Vector(lanes.literal_value, value)

    def code(context, builder, signature, args):
        return _pack(builder, [splat(builder, kind, args[0]) for kind in result.part_types])

    return result(value, lanes), code


@intrinsic
def add(typingctx, a, b):
    """Return a + b, lane by lane."""
    return a(a, b), _each(lambda builder, x, y: builder.fadd(x, y))


@intrinsic
def sub(typingctx, a, b):
    """Return a - b, lane by lane."""
    return a(a, b), _each(lambda builder, x, y: builder.fsub(x, y))


@intrinsic
def mul(typingctx, a, b):
    """Return a * b, lane by lane."""
    return a(a, b), _each(lambda builder, x, y: builder.fmul(x, y))


@intrinsic
def div(typingctx, a, b):
    """Return a / b, lane by lane."""
    return a(a, b), _each(lambda builder, x, y: builder.fdiv(x, y))


@intrinsic
def muladd(typingctx, a, b, c):
    """Return a * b + c, fused where the processor can."""
    return a(a, b, c), _each(lambda builder, x, y, z: _call(builder, "fmuladd", x, y, z))


@intrinsic
def maximum(typingctx, a, b):
    """Return the larger of a and b, lane by lane; neither may be NaN."""
    return a(a, b), _each(lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))


@intrinsic
def minimum(typingctx, a, b):
    """Return the smaller of a and b, lane by lane; neither may be NaN."""
    return a(a, b), _each(lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), x, y))


def activation(builder, value, slope, cap, positive):
    """Emit `acted` for LLVM vectors; `positive` is one bit."""
    zero = _constant(value.type, 0.0)
    below = builder.select(positive, zero, builder.fmul(value, slope))
    value = builder.select(builder.fcmp_ordered("<", value, zero), below, value)
    return builder.select(builder.fcmp_ordered(">", value, cap), cap, value)


@intrinsic
def acted(typingctx, value, slope, cap, positive):
    """Return values below 0 times `slope`, or 0 where `positive`, and none above `cap`; NaN stays."""

    def code(context, builder, signature, args):
        vectors = [_parts(builder, arg) for arg in args[:3]]
        return _pack(builder, [activation(builder, *parts, args[3]) for parts in zip(*vectors)])

    return value(value, slope, cap, types.boolean), code


@intrinsic
def less(typingctx, a, b):
    """Return 1 where a < b, else 0."""

    def operation(builder, x, y):
        return builder.select(builder.fcmp_ordered("<", x, y), _constant(x.type, 1.0), _constant(x.type, 0.0))

    return a(a, b), _each(operation)


@intrinsic
def nan_flags(typingctx, a):
    """Return 1 where a is NaN, else 0."""

    def operation(builder, x):
        return builder.select(builder.fcmp_unordered("uno", x, x), _constant(x.type, 1.0), _constant(x.type, 0.0))

    return a(a), _each(operation)


@intrinsic
def turn(typingctx, source, at, step, target, to, stride):
    """Transpose 8 by 8 elements from rows ``source[at + r * step:]`` to rows ``target[to + c * stride:]``."""

    def code(context, builder, signature, args):
        kind = ir.VectorType(_FLOATS[source.dtype], 8)
        align = source.dtype.bitwidth // 8
        number = ir.IntType(64)
        rows = []
        for r in range(8):
            offset = builder.add(args[1], builder.mul(args[2], ir.Constant(number, r)))
            address = address_of(context, builder, signature.args[0], args[0], offset)
            rows.append(builder.load(builder.bitcast(address, kind.as_pointer()), align=align))
        for s in (4, 2, 1):  # swap the blocks of s by s beside the diagonal
            first = ir.Constant(ir.VectorType(_INDEX, 8), [8 + n - s if n & s else n for n in range(8)])
            second = ir.Constant(ir.VectorType(_INDEX, 8), [8 + n if n & s else n + s for n in range(8)])
            for r in range(8):
                if not r & s:
                    a, b = rows[r], rows[r + s]
                    rows[r], rows[r + s] = builder.shuffle_vector(a, b, first), builder.shuffle_vector(a, b, second)
        for r in range(8):
            offset = builder.add(args[4], builder.mul(args[5], ir.Constant(number, r)))
            address = address_of(context, builder, signature.args[3], args[3], offset)
            builder.store(rows[r], builder.bitcast(address, kind.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), code


@intrinsic
def unzip(typingctx, source, at, target, even, odd):
    """Write the even ones of 32 numbers to ``target[even:]``, the odd ones to ``target[odd:]``."""

    def code(context, builder, signature, args):
        kind = ir.VectorType(_FLOATS[source.dtype], 16)
        align = source.dtype.bitwidth // 8
        address = address_of(context, builder, signature.args[0], args[0], args[1])
        halves = [builder.load(builder.bitcast(builder.gep(address, [ir.Constant(ir.IntType(64), at)]),
                                               kind.as_pointer()), align=align) for at in (0, 16)]
        for first, place in ((0, args[3]), (1, args[4])):
            mask = ir.Constant(ir.VectorType(_INDEX, 16), list(range(first, 32, 2)))
            address = address_of(context, builder, signature.args[2], args[2], place)
            builder.store(builder.shuffle_vector(*halves, mask), builder.bitcast(address, kind.as_pointer()),
                          align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp), code


@intrinsic
def interleave(typingctx, source, even, odd, target, to):
    """Write 32 numbers to ``target[to:]``, in turns from ``source[even:]`` and ``source[odd:]``: undoes `unzip`."""

    def code(context, builder, signature, args):
        kind = ir.VectorType(_FLOATS[source.dtype], 16)
        align = source.dtype.bitwidth // 8
        halves = [builder.load(builder.bitcast(address_of(context, builder, signature.args[0], args[0], at),
                                               kind.as_pointer()), align=align) for at in args[1:3]]
        address = address_of(context, builder, signature.args[3], args[3], args[4])
        for first in (0, 8):
            mask = ir.Constant(ir.VectorType(_INDEX, 16), [first + n // 2 + 16 * (n % 2) for n in range(16)])
            place = builder.gep(address, [ir.Constant(ir.IntType(64), 2 * first)])
            builder.store(builder.shuffle_vector(*halves, mask), builder.bitcast(place, kind.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp), code


@intrinsic
def gather(typingctx, source, indices, at):
    """Return the 16 elements of `source` that ``indices[at:]`` (int32) name."""
    result = Vector(16, source.dtype)

    def code(context, builder, signature, args):
        whole = ir.VectorType(_INDEX, 16)
        places = builder.load(builder.bitcast(address_of(context, builder, signature.args[1], *args[1:]),
                                              whole.as_pointer()), align=4)
        base = address_of(context, builder, signature.args[0], args[0], ir.Constant(ir.IntType(64), 0))
        kind = result.part_types[0]
        lanes = [builder.extract_element(places, ir.Constant(_INDEX, i)) for i in range(16)]
        value = ir.Constant(kind, ir.Undefined)
        for i, lane in enumerate(lanes):
            number = builder.load(builder.gep(base, [builder.sext(lane, ir.IntType(64))]))
            value = builder.insert_element(value, number, ir.Constant(_INDEX, i))
        return _pack(builder, [value])

    return result(source, indices, types.intp), code


@intrinsic
def or_nan(typingctx, source, value):
    """Return `value`, or NaN where `source` is NaN."""
    return value(source, value), _each(lambda builder, x, y: builder.select(builder.fcmp_unordered("uno", x, x), x, y))


@intrinsic
def rint(typingctx, a):
    """Return the nearest whole numbers, ties to even."""
    return a(a), _each(lambda builder, x: _call(builder, "rint", x))


def _halve(builder, value):
    """Return the lower and the upper half of a vector."""
    half = value.type.count // 2
    masks = [ir.Constant(ir.VectorType(_INDEX, half), list(range(i, i + half))) for i in (0, half)]
    return [builder.shuffle_vector(value, value, mask) for mask in masks]


def _reduce(builder, value, combine):
    """Reduce a vector to one number by a tree whose shape depends on the number of lanes only."""
    parts = _parts(builder, value)
    least = min(part.type.count for part in parts)
    while any(part.type.count > least for part in parts):
        parts = [piece for part in parts for piece in (_halve(builder, part) if part.type.count > least else [part])]
    while len(parts) > 1:
        parts = [combine(*parts[i:i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
    last = parts[0]
    while last.type.count > 1:
        last = combine(*_halve(builder, last))
    return builder.extract_element(last, ir.Constant(_INDEX, 0))


@intrinsic
def widest(typingctx, a):
    """Return the largest lane; none may be NaN."""

    def code(context, builder, signature, args):
        return _reduce(builder, args[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return a.dtype(a), code


# exp(r) = 1 + r + r^2 p(r) on |r| <= ln 2 / 2; Taylor to r^7 leaves 5e-9, below float32's rounding
_EXP_TERMS = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2)


def _exp_part(builder, x):
    kind = x.type

    def number(value):
        return _constant(kind, value)

    def multiply_add(a, b, c):
        return _call(builder, "fmuladd", a, b, c)

    low = builder.fcmp_ordered("<", x, number(-87.0))
    x = builder.select(low, number(-87.0), x)
    magic = 12582912.0  # 1.5 * 2^23: adding it rounds to a whole number in the low mantissa bits
    shifted = builder.fadd(builder.fmul(x, number(1.4426950408889634)), number(magic))
    whole = builder.fsub(shifted, number(magic))
    rest = multiply_add(whole, number(-0.693359375), x)  # ln 2 in two parts, the first exact
    rest = multiply_add(whole, number(2.12194440e-4), rest)
    value = number(_EXP_TERMS[0])
    for term in _EXP_TERMS[1:]:
        value = multiply_add(value, rest, number(term))
    value = multiply_add(value, builder.fmul(rest, rest), builder.fadd(rest, number(1.0)))
    integers = ir.VectorType(ir.IntType(32), kind.count)
    power = builder.shl(builder.bitcast(shifted, integers), _constant(integers, 23))
    value = builder.bitcast(builder.add(builder.bitcast(value, integers), power), kind)
    return builder.select(low, number(0.0), value)


@intrinsic
def exp(typingctx, a):
    """Return e^a of float32 lanes, relative error below 2e-7; 0 below -87, a must not exceed 88."""
    return a(a), _each(_exp_part)
