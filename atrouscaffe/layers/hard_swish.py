"""HardSwish."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import PointwiseByInput

__all__ = ["HardSwish"]


@register
class HardSwish(PointwiseByInput):
    """y = x min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""

    type = "HardSwish"
    options = "hardswish_param"
    backward_reads = ("bottom",)

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        gate = xp.clip(x + 3, 0, 6)
        gate /= 6
        xp.multiply(x, gate, out=y)

    def apply_grad_by(self, xp: Any, x: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx = dy where x >= 3, dy (2 x + 3) / 6 where -3 < x < 3, else 0."""
        slope = (2 * x + 3) / 6
        slope *= x > -3
        xp.multiply(dy, xp.where(x >= 3, x.dtype.type(1), slope), out=dx)
