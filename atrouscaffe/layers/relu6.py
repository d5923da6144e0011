"""ReLU6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.layers.tail import ACTIVATION
from atrouscaffe.ops.activation import relu6, relu6_grad
from atrouscaffe.runtime.blob import Blob

__all__ = ["ReLU6"]


@register
class ReLU6(Pointwise):
    """y = min(max(x, 0), 6), MobileNet's activation; no gradient at 0 and 6 and beyond.

    Not in BVLC's Caffe: a layer of the forks that published MobileNetV2.
    """

    type = "ReLU6"

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply it."""
        return ACTIVATION

    def activation(self, params: Sequence[Blob]) -> tuple[Any, float]:
        """Return slope 0 and cap 6."""
        return 0.0, 6.0

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        relu6(xp, x, y)

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx from dy."""
        relu6_grad(xp, y, dy, dx)
