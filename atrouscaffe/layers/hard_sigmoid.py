"""HardSigmoid."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import Pointwise

__all__ = ["HardSigmoid"]


@register
class HardSigmoid(Pointwise):
    """y = min(max(alpha x + beta, 0), 1).

    ``hardsigmoid_param``: alpha (default 0.2), beta (default 0.5). Without either it is MobileNetV3's
    ``relu6(x + 3) / 6``, since the forks that have no such fields mean that (Howard et al., 2019).
    """

    type = "HardSigmoid"
    options = "hardsigmoid_param"

    def setup(self) -> None:
        """Read the line."""
        plain = not (self.p.has("alpha") or self.p.has("beta"))
        self.alpha: float = 1 / 6 if plain else self.p.alpha
        self.beta: float = self.p.beta

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        xp.multiply(x, self.alpha, out=y)
        y += self.beta
        xp.clip(y, 0, 1, out=y)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx = alpha dy where 0 < y < 1."""
        xp.multiply(dy, (y > 0) & (y < 1), out=dx)
        dx *= self.alpha
