"""TanH."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import tanh, tanh_grad

__all__ = ["TanH"]


@register
class TanH(Pointwise):
    """y = tanh(x) (``tanh_layer.cpp``)."""

    type = "TanH"
    options = "tanh_param"

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        tanh(xp, x, y)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx from dy."""
        tanh_grad(xp, y, dy, dx)
