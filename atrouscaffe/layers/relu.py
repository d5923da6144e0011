"""ReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.layers.tail import ACTIVATION
from atrouscaffe.ops.activation import relu, relu_grad
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["ReLU"]


@register
class ReLU(Pointwise):
    """y = max(x, 0) + negative_slope min(x, 0); the gradient at 0 is the slope (``relu_layer.cpp``)."""

    type = "ReLU"
    options = "relu_param"

    def setup(self) -> None:
        """Read the slope; y has the sign of x unless it is negative."""
        self.slope: float = self.p.negative_slope
        if self.slope < 0:
            self.backward_reads = ("bottom",)

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply it."""
        return ACTIVATION

    def activation(self, params: Sequence[Blob]) -> tuple[Any, float]:
        """Return the slope, without a cap."""
        return self.slope, float("inf")

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        relu(xp, x, y, self.slope)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx from dy and an array with the signs of x."""
        relu_grad(xp, y, dy, dx, self.slope)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map; in place with a negative slope a copy of x is kept."""
        if ctx.keeps and self.slope < 0 and bottom[0] is top[0]:
            ctx.saved["input"] = bottom[0].array.copy()
        super().forward(ctx, bottom, top, params)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map the gradient."""
        if self.slope >= 0:
            super().backward(ctx, bottom, top, params)
        elif ctx.propagate[0]:
            x = ctx.saved["input"] if bottom[0] is top[0] else bottom[0].array
            spread(ctx.xp, self.apply_grad, x, top[0].grad, bottom[0].grad)
