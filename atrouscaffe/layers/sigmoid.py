"""Sigmoid."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import sigmoid, sigmoid_grad

__all__ = ["Sigmoid"]


@register
class Sigmoid(Pointwise):
    """y = 1 / (1 + exp(-x)) (``sigmoid_layer.cpp``)."""

    type = "Sigmoid"
    options = "sigmoid_param"

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        sigmoid(xp, x, y)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx from dy."""
        sigmoid_grad(xp, y, dy, dx)
