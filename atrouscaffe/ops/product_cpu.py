"""The matrix kernel: products of packed panels, with what follows a convolution done in the registers.

``C[m, n] = act(sum_k A[m, k] B[k, n] + bias[m] + base[m, n])``. A is packed: its rows are cut into
blocks (`row_blocks`), and a block of R rows holds ``A[k, r]``, R numbers for each k, one k after
another, padded with zeros. B and C are rows of contiguous numbers, `ldb` and `ldc` apart.

A block of registers, R rows by V vectors of 16 numbers, takes its sums over all k; one broadcast
of A serves V vectors of B::

               B[k]  |  vector 0  |  vector 1  |
        A[k, 0]      |  sum 0, 0  |  sum 0, 1  |      R = 14, V = 2 with AVX-512 (28 of 32 registers),
        A[k, 1]      |  sum 1, 0  |  sum 1, 1  |      R = 6, V = 1 elsewhere (12 of 16, 24 of 32).
          ...

Each sum is taken by one task in the order of k, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import acted, add, address_of, fill, load, memory, peek, store

__all__ = ["LANES", "ROWS", "WIDTH", "multiply", "pack_rows"]

LANES = 16
AHEAD = 1024
"""Numbers by which A is asked for before it is read: panels stream from farther caches."""

def _has_avx512() -> bool:
    if config.CPU_FEATURES is not None:
        return "+avx512f" in config.CPU_FEATURES
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


ROWS = (14, 8, 4) if _has_avx512() else (6, 4, 2)
"""Heights of blocks, the tallest first."""
VECTORS = 2 if _has_avx512() else 1
WIDTH = LANES * VECTORS
"""Columns of a full block."""
_TALL, _MIDDLE, _LOW = ROWS
_KIND = ir.VectorType(ir.FloatType(), LANES)
_SIZE, _INT = ir.IntType(64), ir.IntType(32)


def _splat(builder, number):
    one = builder.insert_element(ir.Constant(_KIND, ir.Undefined), number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, ir.Constant(_KIND, ir.Undefined),
                                  ir.Constant(ir.VectorType(_INT, LANES), None))


def _vector_at(builder, pointer, vector):
    return builder.bitcast(builder.gep(pointer, [_SIZE(LANES * vector)]), _KIND.as_pointer())


def _ask_for(builder, pointer):
    """Ask for the cache line at `pointer`, which need not exist."""
    pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    function_type = ir.FunctionType(ir.VoidType(), [pointer.type, _INT, _INT, _INT])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0i8")
    builder.call(function, [pointer, _INT(0), _INT(3), _INT(1)])


def _sums(builder, rows, vectors, a, b, ldb, count):
    """Emit the loop over k; return the sums, row by row."""
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_KIND, [_KIND] * 3), "llvm.fmuladd.v16f32")
    before, loop = builder.block, builder.append_basic_block("k")
    after = builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, at_a, at_b = builder.phi(_SIZE), builder.phi(a.type), builder.phi(b.type)
    sums = [builder.phi(_KIND) for _ in range(rows * vectors)]
    lines = [builder.load(_vector_at(builder, at_b, v), align=4) for v in range(vectors)]
    grown = []
    _ask_for(builder, builder.gep(at_a, [_SIZE(AHEAD)]))
    for r in range(rows):
        weight = _splat(builder, builder.load(builder.gep(at_a, [_SIZE(r)])))
        grown += [builder.call(fma, [weight, lines[v], sums[r * vectors + v]]) for v in range(vectors)]
    following = builder.add(k, _SIZE(1))
    for phi, start, step in ((k, _SIZE(0), following), (at_a, a, builder.gep(at_a, [_SIZE(rows)])),
                             (at_b, b, builder.gep(at_b, [ldb])),
                             *((s, ir.Constant(_KIND, None), g) for s, g in zip(sums, grown))):
        phi.add_incoming(start, before)
        phi.add_incoming(step, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return grown


@intrinsic(prefer_literal=True)
def _block(typingctx, rows, vectors, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based):
    """Write one block of C, `rows` rows by `vectors` vectors: the sums over `count` k, at least 1, and the base."""
    height, across = rows.literal_value, vectors.literal_value

    def code(context, builder, signature, args):
        def address(place):
            return address_of(context, builder, signature.args[place], args[place], args[place + 1])

        sums = _sums(builder, height, across, address(2), address(4), args[6], args[7])
        top, under, zero = address(8), address(11), ir.Constant(_KIND, None)
        for r in range(height):
            row, start = (builder.gep(p, [builder.mul(step, _SIZE(r))])
                          for p, step in ((top, args[10]), (under, args[13])))
            for v in range(across):
                there = builder.load(_vector_at(builder, start, v), align=4)
                value = builder.fadd(sums[r * across + v], builder.select(args[14], there, zero))
                builder.store(value, _vector_at(builder, row, v), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(rows, vectors, a, size, b, size, size, size, c, size, size, base, size, size,
                      types.boolean), code


@jit
def _whole(rows, wide, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based):
    """Write one block that lies inside C."""
    if wide:
        if rows == _TALL:
            _block(_TALL, VECTORS, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based)
        elif rows == _MIDDLE:
            _block(_MIDDLE, VECTORS, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based)
        else:
            _block(_LOW, VECTORS, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based)
    elif rows == _TALL:
        _block(_TALL, 1, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based)
    elif rows == _MIDDLE:
        _block(_MIDDLE, 1, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based)
    else:
        _block(_LOW, 1, a, at_a, b, at_b, ldb, count, c, at_c, ldc, base, at_base, ldbase, based)


@jit
def _finish(c, at_c, ldc, rows, vectors, bias, slope, row, act, cap):
    """Add the bias to a block and apply the activation."""
    ceiling = fill(cap, 16)
    for r in range(rows):
        shift, steep = fill(peek(bias, row + r), 16), fill(peek(slope, row + r), 16)
        for v in range(vectors):
            place = at_c + r * ldc + v * 16
            value = add(load(c, place, 16), shift)
            if act:
                value = acted(value, steep, ceiling, act == 1)
            store(c, place, value)


@jit
def multiply(blocks, span, a, a_place, b, b_place, c, c_place, base, base_place, bias, slope, act, cap, edge, points):
    """Write some blocks of rows of C from some k of A and B; `points` such products, one after another.

    Parameters
    ----------
    blocks : (B, 3) int64
        Of each block of rows: the first row, rows in it, rows of C that it has.
    span : (first, last)
        Blocks [first, last).
    a : float32 array
        Packed panels.
    a_place : (depth, k0, k1, step)
        k in a panel; those that count, [k0, k1), at least one; from one product's panels to the next one's.
    b : float32 array
    b_place : (at, ld, n, step, across)
        Where row k0 begins, from row to row, columns, from product to product, from column j to the next: 1, or where B
        lies in panels of `WIDTH` columns their k. Rows can be read up to the next multiple of 16 columns.
    c : float32 array
    c_place : (at, ld, step)
    base : float32 array
    base_place : (at, ld, step, used)
        What is added where `used`: C itself for the second and further parts of k, or another blob.
    bias, slope : (rows of all blocks,) float32
    act : int
        -1: sums alone; 0: bias; 1: also 0 for x below 0, and no more than `cap`; 2: there x times the row's slope.
    cap : float32
    edge : (14 * 32,) float32
        Scratch for blocks that reach beyond C.
    points : int
    """
    a_, b_, c_, base_, edge_ = memory(a), memory(b), memory(c), memory(base), memory(edge)
    bias_, slope_ = memory(bias), memory(slope)
    depth, k0, k1, a_step = a_place
    at_b, ldb, n, b_step, across = b_place
    at_c, ldc, c_step = c_place
    at_base, ldbase, base_step, based = base_place
    across_c = -(-n // WIDTH)  # blocks of a row of C: one after another, so that C is written along its rows
    for p in range(points):
        for step in range(across_c * (span[1] - span[0])):
            i, j = span[0] + step // across_c, step % across_c * WIDTH
            wide = n - j > LANES and VECTORS == 2
            columns, vectors = min(n - j, WIDTH), 2 if wide else 1
            row, rows, real = blocks[i, 0], blocks[i, 1], blocks[i, 2]
            panel = p * a_step + row * depth + k0 * rows
            if rows == real and columns == vectors * LANES:
                at = at_c + row * ldc + j
                _whole(rows, wide, a_, panel, b_, at_b + j * across, ldb, k1 - k0, c_, at, ldc, base_,
                       at_base + row * ldbase + j, ldbase, based)
                if act >= 0:
                    _finish(c_, at, ldc, rows, vectors, bias_, slope_, row, act, cap)
                continue
            if based:
                for r in range(real):
                    for x in range(columns):
                        edge[r * WIDTH + x] = base[at_base + (row + r) * ldbase + j + x]
            _whole(rows, wide, a_, panel, b_, at_b + j * across, ldb, k1 - k0, edge_, 0, WIDTH, edge_, 0, WIDTH, based)
            if act >= 0:
                _finish(edge_, 0, WIDTH, rows, vectors, bias_, slope_, row, act, cap)
            for r in range(real):
                for x in range(columns):
                    c[at_c + (row + r) * ldc + j + x] = edge[r * WIDTH + x]
        at_b += b_step
        at_c += c_step
        at_base += base_step


@jit
def pack_rows(matrix, row_step, k_step, blocks, panels):
    """Pack A, whose element (m, k) is ``matrix[m * row_step + k * k_step]``, into `panels` (flat).

    Rows that pad a block are zeros.
    """
    total = 0
    for i in range(blocks.shape[0]):
        total += blocks[i, 1]
    depth = panels.size // total
    for i in range(blocks.shape[0]):
        row, rows, real = blocks[i, 0], blocks[i, 1], blocks[i, 2]
        for k in range(depth):
            at = row * depth + k * rows
            for r in range(real):
                panels[at + r] = matrix[(row + r) * row_step + k * k_step]
            for r in range(real, rows):
                panels[at + r] = 0
