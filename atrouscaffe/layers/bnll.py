"""BNLL."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import bnll, bnll_grad

__all__ = ["BNLL"]


@register
class BNLL(Pointwise):
    """y = log(1 + exp(x)), the binomial normal log likelihood, or softplus (``bnll_layer.cpp``)."""

    type = "BNLL"

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        bnll(xp, x, y)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx from dy."""
        bnll_grad(xp, y, dy, dx)
