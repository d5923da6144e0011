"""Swish."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import PointwiseByInput
from atrouscaffe.ops.activation import swish, swish_grad

__all__ = ["Swish"]


@register
class Swish(PointwiseByInput):
    """y = x sigmoid(beta x) (``swish_layer.cpp``; Ramachandran et al., 2017)."""

    type = "Swish"
    options = "swish_param"

    def setup(self) -> None:
        """Read beta."""
        self.beta: float = self.p.beta

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        swish(xp, x, y, self.beta)

    def apply_grad_by(self, xp: Any, x: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx from dy."""
        swish_grad(xp, y, x, dy, dx, self.beta)
