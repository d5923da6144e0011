"""Threshold."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import threshold

__all__ = ["Threshold"]


@register
class Threshold(Pointwise):
    """y = 1 where x > threshold, else 0; no gradient (``threshold_layer.cpp``)."""

    type = "Threshold"
    options = "threshold_param"
    has_backward = False
    backward_reads = ()

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        threshold(xp, x, y, self.p.threshold)
