"""Log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["Log"]


@register
class Log(Pointwise):
    """y = log of (shift + scale x) to the given base; base -1 stands for e (``log_layer.cpp``).

    In place the original takes the gradient at y instead of x; here x is recovered from y.
    """

    type = "Log"
    options = "log_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the base."""
        base = self.p.base
        if base != -1 and (base <= 0 or base == 1):
            raise LayerError(f"log_param.base: expected a positive number other than 1, or -1 for e, got {base:g}")
        self.log_base = 1.0 if base == -1 else math.log(base)

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        xp.multiply(x, self.p.scale, out=y)
        y += self.p.shift
        xp.log(y, out=y)
        y /= self.log_base

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = dy scale / (log(base) (shift + scale x))."""
        if not ctx.propagate[0]:
            return
        in_place = bottom[0] is top[0]
        factor = self.p.scale / self.log_base

        def kernel(xp: Any, values: Any, dy: Any, dx: Any) -> None:
            inner = xp.exp(values * self.log_base) if in_place else values * self.p.scale + self.p.shift
            xp.divide(dy, inner, out=dx)
            dx *= factor

        spread(ctx.xp, kernel, bottom[0].array, top[0].grad, bottom[0].grad)
