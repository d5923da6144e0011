"""Vectors of a fixed number of lanes inside compiled functions.

Numba's own loops over labels come out partly scalar, because LLVM cannot prove that arrays do not
overlap. These intrinsics name the vector operations outright (``<24 x float>`` for 21 labels), and
LLVM cuts them into what the processor has: SSE, AVX2, AVX-512, NEON. Offsets are in elements from
the start of a contiguous array and are not checked.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

__all__ = ["Vector", "add", "exp", "fill", "less", "load", "maximum", "mul", "muladd", "peek", "poke", "rint",
           "store", "sub", "total", "widest"]

_FLOATS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class Vector(types.Type):
    """Type of a value of `lanes` floating point numbers held in registers."""

    def __init__(self, lanes: int, dtype: types.Type) -> None:
        self.lanes, self.dtype = lanes, dtype
        super().__init__(f"Vector({lanes} x {dtype})")


@register_default(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, ir.VectorType(_FLOATS[fe_type.dtype], fe_type.lanes))


def _address(context, builder, array_type, array, offset):
    """Return the address of element `offset` of a contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _constant(vector_type, value):
    return ir.Constant(vector_type, [value] * vector_type.count)


@intrinsic(prefer_literal=True)
def load(typingctx, array, offset, lanes):
    """Return `lanes` elements of `array` from `offset` on."""
    result = Vector(lanes.literal_value, array.dtype)

    def code(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], args[0], args[1])
        pointer = builder.bitcast(address, context.get_value_type(result).as_pointer())
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return result(array, types.intp, lanes), code


@intrinsic
def store(typingctx, array, offset, vector):
    """Write `vector` to `array` from `offset` on."""

    def code(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], args[0], args[1])
        pointer = builder.bitcast(address, args[2].type.as_pointer())
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), code


@intrinsic
def peek(typingctx, array, offset):
    """Return one element, without the test for a negative index."""

    def code(context, builder, signature, args):
        return builder.load(_address(context, builder, signature.args[0], *args))

    return array.dtype(array, types.intp), code


@intrinsic
def poke(typingctx, array, offset, value):
    """Write one element, without the test for a negative index."""

    def code(context, builder, signature, args):
        builder.store(args[2], _address(context, builder, signature.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), code


@intrinsic(prefer_literal=True)
def fill(typingctx, value, lanes):
    """Return a vector whose lanes are all `value`."""
    result = Vector(lanes.literal_value, value)

    def code(context, builder, signature, args):
        vector_type = context.get_value_type(result)
        one = builder.insert_element(ir.Constant(vector_type, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes.literal_value), None)
        return builder.shuffle_vector(one, ir.Constant(vector_type, ir.Undefined), mask)

    return result(value, lanes), code


def _binary(name, doc):
    def typed(typingctx, a, b):
        def code(context, builder, signature, args):
            return getattr(builder, name)(*args)

        return a(a, b), code

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


add = _binary("fadd", "Return a + b, lane by lane.")
sub = _binary("fsub", "Return a - b, lane by lane.")
mul = _binary("fmul", "Return a * b, lane by lane.")


def _call(builder, name, vector_type, args):
    """Call the LLVM intrinsic `name`, overloaded on `vector_type`."""
    element = "f32" if isinstance(vector_type.element, ir.FloatType) else "f64"
    full = f"llvm.{name}.v{vector_type.count}{element}"
    function_type = ir.FunctionType(vector_type, [vector_type] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full), args)


@intrinsic
def muladd(typingctx, a, b, c):
    """Return a * b + c, fused where the processor can."""

    def code(context, builder, signature, args):
        return _call(builder, "fmuladd", args[0].type, args)

    return a(a, b, c), code


@intrinsic
def maximum(typingctx, a, b):
    """Return the larger of a and b, lane by lane; neither may be NaN."""

    def code(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), code


@intrinsic
def less(typingctx, a, b):
    """Return 1 where a < b, else 0."""

    def code(context, builder, signature, args):
        kind = args[0].type
        return builder.select(builder.fcmp_ordered("<", *args), _constant(kind, 1.0), _constant(kind, 0.0))

    return a(a, b), code


@intrinsic
def rint(typingctx, a):
    """Return the nearest whole numbers, ties to even."""

    def code(context, builder, signature, args):
        return _call(builder, "rint", args[0].type, args)

    return a(a), code


def _halves(builder, value, combine):
    """Reduce a vector to one number by a tree whose shape depends on the number of lanes only."""
    lanes = value.type.count
    index = ir.IntType(32)
    parts = [value]
    if lanes > 8:
        parts = [builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(index, 8), list(range(i, i + 8))))
                 for i in range(0, lanes, 8)]
    while len(parts) > 1:
        parts = [combine(parts[i], parts[i + 1]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
    value = parts[0]
    while value.type.count > 1:
        half = value.type.count // 2
        masks = [ir.Constant(ir.VectorType(index, half), list(range(i, i + half))) for i in (0, half)]
        low, high = (builder.shuffle_vector(value, value, mask) for mask in masks)
        value = combine(low, high)
    return builder.extract_element(value, ir.Constant(index, 0))


@intrinsic
def total(typingctx, a):
    """Return the sum of the lanes (a power of two, or a multiple of 8, of them)."""

    def code(context, builder, signature, args):
        return _halves(builder, args[0], builder.fadd)

    return a.dtype(a), code


@intrinsic
def widest(typingctx, a):
    """Return the largest lane; none may be NaN."""

    def code(context, builder, signature, args):
        return _halves(builder, args[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return a.dtype(a), code


# exp(r) = 1 + r + r^2 p(r) on |r| <= ln 2 / 2; Taylor to r^7 leaves 5e-9, below float32's rounding
_EXP_TERMS = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2)


@intrinsic
def exp(typingctx, a):
    """Return e^a of float32 lanes, relative error below 2e-7; 0 below -87, a must not exceed 88."""

    def code(context, builder, signature, args):
        (x,) = args
        kind = x.type
        number = lambda value: _constant(kind, value)  # noqa: E731
        multiply_add = lambda *terms: _call(builder, "fmuladd", kind, terms)  # noqa: E731
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

    return a(a), code
