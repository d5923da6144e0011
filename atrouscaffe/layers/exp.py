"""Exp."""

from __future__ import annotations

import math
from typing import Any

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import exp_affine, exp_affine_grad

__all__ = ["Exp"]


@register
class Exp(Pointwise):
    """y = base ^ (shift + scale x); base -1 stands for e (``exp_layer.cpp``)."""

    type = "Exp"
    options = "exp_param"

    def setup(self) -> None:
        """Check the base."""
        base = self.p.base
        if base != -1 and base <= 0:
            raise LayerError(f"exp_param.base: expected a positive number, or -1 for e, got {base:g}")
        log_base = 1.0 if base == -1 else math.log(base)
        self.scale = log_base * self.p.scale
        self.shift = log_base * self.p.shift

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        exp_affine(xp, x, y, self.scale, self.shift)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx = dy y log(base) scale."""
        exp_affine_grad(xp, y, dy, dx, self.scale)
