"""ELU."""

from __future__ import annotations

from typing import Any

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import elu, elu_grad

__all__ = ["ELU"]


@register
class ELU(Pointwise):
    """y = x above 0, else alpha (exp(x) - 1) (``elu_layer.cpp``; Clevert et al., 2016)."""

    type = "ELU"
    options = "elu_param"

    def setup(self) -> None:
        """Read alpha; a negative one would give both branches the same sign, and nobody's network has it."""
        self.alpha: float = self.p.alpha
        if self.alpha < 0:
            raise LayerError(f"elu_param.alpha: expected at least 0, got {self.alpha:g}")

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        elu(xp, x, y, self.alpha)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx from dy."""
        elu_grad(xp, y, dy, dx, self.alpha)
