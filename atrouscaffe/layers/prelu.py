"""PReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import Blueprint, Context, Shape, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.layers.tail import ACTIVATION
from atrouscaffe.ops.activation import prelu, prelu_grad
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.runtime.blob import Blob

__all__ = ["PReLU"]


@register
class PReLU(Pointwise):
    """y = max(x, 0) + slope min(x, 0) with learned slopes, one a channel or one for all (``prelu_layer.cpp``).

    He et al., 2015. Slopes start at 0.25 unless a filler is given. In place a copy of x is kept.
    """

    type = "PReLU"
    options = "prelu_param"
    backward_reads = ("bottom",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        if len(bottoms[0]) < 2:
            raise ShapeError(f"bottom[0]: expected at least 2 axes, channels second, got shape {tuple(bottoms[0])}")
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Return the slopes."""
        shape = () if self.p.channel_shared else (bottoms[0][1],)
        return [Blueprint(shape, self.p.filler if self.p.has("filler") else None, "slope", 0.25)]

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply it."""
        return ACTIVATION

    def activation(self, params: Sequence[Blob]) -> tuple[Any, float]:
        """Return the slopes, without a cap."""
        return params[0].array, float("inf")

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map."""
        if ctx.keeps and bottom[0] is top[0]:
            ctx.saved["input"] = bottom[0].array.copy()
        shape = fold(bottom[0].shape, 1)
        prelu(bottom[0].array.reshape(shape), params[0].array.reshape(-1), top[0].array.reshape(shape))

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = dy where x > 0, else slope dy; each slope gets the sum of dy min(x, 0)."""
        shape = fold(bottom[0].shape, 1)
        x = (ctx.saved["input"] if bottom[0] is top[0] else bottom[0].array).reshape(shape)
        dx = bottom[0].grad.reshape(shape) if ctx.propagate[0] else None
        total = prelu_grad(x, params[0].array.reshape(-1), top[0].grad.reshape(shape), dx, ctx.param_propagate[0])
        if total is not None:
            params[0].grad[...] += total.sum() if self.p.channel_shared else total
