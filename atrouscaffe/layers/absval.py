"""AbsVal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Context, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["AbsVal"]


@register
class AbsVal(Pointwise):
    """y = |x|; the gradient at 0 is 0 (``absval_layer.cpp``, which does not run in place; this one does)."""

    type = "AbsVal"
    backward_reads = ("bottom",)

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        xp.abs(x, out=y)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map; in place the signs are kept."""
        if ctx.keeps and bottom[0] is top[0]:
            ctx.saved["sign"] = ctx.xp.sign(bottom[0].array).astype("int8")
        super().forward(ctx, bottom, top, params)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = dy sign(x)."""
        if ctx.propagate[0]:
            x = ctx.saved["sign"] if bottom[0] is top[0] else bottom[0].array

            def kernel(xp: Any, x: Any, dy: Any, dx: Any) -> None:
                xp.multiply(dy, xp.sign(x), out=dx)

            spread(ctx.xp, kernel, x, top[0].grad, bottom[0].grad)
