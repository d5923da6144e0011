"""Whether this thread's processor takes numbers below the smallest normal one as 0.

Weights that decayed in training make such numbers, and x86 processors take a hundred times as long over each.
Elsewhere nothing is done.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from atrouscaffe.runtime.jit import jit

__all__ = ["flush_denormals"]

_X86 = platform.machine().lower() in ("x86_64", "amd64")
_FLUSH = 0x8040  # of the register MXCSR: results below the smallest normal number, and operands, become 0


@intrinsic
def _exchange(typingctx, flush):
    """Set both bits to `flush`; return whether they were set."""

    def code(context, builder, signature, args):
        if not _X86:
            return ir.Constant(ir.IntType(1), 0)
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        place = cgutils.alloca_once(builder, word)
        pointer = builder.bitcast(place, byte)
        kind = ir.FunctionType(ir.VoidType(), [byte])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr"), [pointer])
        before = builder.load(place)
        bits = builder.select(args[0], ir.Constant(word, _FLUSH), ir.Constant(word, 0))
        builder.store(builder.or_(builder.and_(before, ir.Constant(word, 0xFFFFFFFF ^ _FLUSH)), bits), place)
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr"), [pointer])
        return builder.icmp_unsigned("==", builder.and_(before, ir.Constant(word, _FLUSH)), ir.Constant(word, _FLUSH))

    return types.boolean(types.boolean), code


@jit
def flush_denormals(flush):
    """Let this thread take numbers below the smallest normal one as 0, or not; return what it did before."""
    return _exchange(flush)
