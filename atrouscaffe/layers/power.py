"""Power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.layers.base import Context, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import power, power_grad
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["Power"]


@register
class Power(Pointwise):
    """y = (shift + scale x) ^ power (``power_layer.cpp``).

    The gradient is power scale (shift + scale x)^(power - 1). The original divides y by
    shift + scale x instead, which is NaN where that is 0. A negative base with a fractional power
    is NaN in both.
    """

    type = "Power"
    options = "power_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Read the three numbers; where the gradient does not depend on x, nothing need be kept."""
        self.power: float = self.p.power
        self.scale: float = self.p.scale
        self.shift: float = self.p.shift
        self.slope = self.power * self.scale
        self.linear = self.power == 1 or self.slope == 0
        if self.linear:
            self.backward_reads = ()

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        if self.slope == 0:  # also for x that is not finite, as in the original
            with np.errstate(all="ignore"):  # NaN or infinite as the original's pow is
                y[...] = 1.0 if self.power == 0 else float(np.float64(self.shift) ** self.power)
            return
        power(xp, x, y, self.power, self.scale, self.shift)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map; in place the gradient needs a copy of x."""
        if ctx.keeps and not self.linear and bottom[0] is top[0]:
            ctx.saved["input"] = bottom[0].array.copy()
        super().forward(ctx, bottom, top, params)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map the gradient."""
        if not ctx.propagate[0]:
            return
        if self.linear:
            spread(ctx.xp, lambda xp, dy, dx: xp.multiply(dy, self.slope, out=dx), top[0].grad, bottom[0].grad)
            return

        def kernel(xp: Any, x: Any, dy: Any, dx: Any) -> None:
            power_grad(xp, x, dy, dx, self.power, self.scale, self.shift)

        x = ctx.saved["input"] if bottom[0] is top[0] else bottom[0].array
        spread(ctx.xp, kernel, x, top[0].grad, bottom[0].grad)
