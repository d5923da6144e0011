"""Clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.layers.tail import ACTIVATION
from atrouscaffe.ops.activation import clip, clip_grad, gate
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["Clip"]


@register
class Clip(Pointwise):
    """y = min(max(x, min), max); gradient where min <= x <= max (``clip_layer.cpp``).

    In place the original lets every gradient through, since it compares y; here x decides.
    """

    type = "Clip"
    options = "clip_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the two bounds."""
        if not (self.p.has("min") and self.p.has("max")):
            raise LayerError("clip_param: expected both min and max")
        self.low: float = self.p.min
        self.high: float = self.p.max
        if self.low > self.high:
            raise LayerError(f"clip_param: expected min <= max, got {self.low:g} and {self.high:g}")

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply it where it begins at 0."""
        return ACTIVATION if self.low == 0 else ""

    def activation(self, params: Sequence[Blob]) -> tuple[Any, float]:
        """Return slope 0 and the upper bound."""
        return 0.0, self.high

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        clip(xp, x, y, self.low, self.high)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map; in place, where x was inside is kept."""
        if ctx.keeps and bottom[0] is top[0]:
            x = bottom[0].array
            ctx.saved["inside"] = (x >= self.low) & (x <= self.high)
        super().forward(ctx, bottom, top, params)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Let the gradient through where x was inside."""
        if not ctx.propagate[0]:
            return
        if bottom[0] is top[0]:
            spread(ctx.xp, gate, ctx.saved["inside"], top[0].grad, bottom[0].grad)
        else:
            spread(ctx.xp, lambda xp, x, dy, dx: clip_grad(xp, x, dy, dx, self.low, self.high),
                   bottom[0].array, top[0].grad, bottom[0].grad)
