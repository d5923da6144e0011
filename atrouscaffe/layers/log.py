"""Log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import log_affine, log_affine_grad
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
        log_affine(xp, x, y, self.p.scale, self.p.shift, self.log_base)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = dy scale / (log(base) (shift + scale x))."""
        if not ctx.propagate[0]:
            return
        in_place = bottom[0] is top[0]

        def kernel(xp: Any, values: Any, dy: Any, dx: Any) -> None:
            log_affine_grad(xp, values, dy, dx, self.p.scale, self.p.shift, self.log_base, in_place)

        spread(ctx.xp, kernel, bottom[0].array, top[0].grad, bottom[0].grad)
