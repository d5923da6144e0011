"""Swish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Context, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import swish, swish_grad
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["Swish"]


@register
class Swish(Pointwise):
    """y = x sigmoid(beta x) (``swish_layer.cpp``; Ramachandran et al., 2017)."""

    type = "Swish"
    options = "swish_param"
    backward_reads = ("bottom", "top")

    def setup(self) -> None:
        """Read beta."""
        self.beta: float = self.p.beta

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        swish(xp, x, y, self.beta)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map; in place a copy of x is kept."""
        if ctx.keeps and bottom[0] is top[0]:
            ctx.saved["input"] = bottom[0].array.copy()
        super().forward(ctx, bottom, top, params)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map the gradient."""
        if ctx.propagate[0]:
            x = ctx.saved["input"] if bottom[0] is top[0] else bottom[0].array
            spread(ctx.xp, lambda xp, x, y, dy, dx: swish_grad(xp, y, x, dy, dx, self.beta),
                   x, top[0].array, top[0].grad, bottom[0].grad)
