"""Flatten: several axes as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.reshape import Reshape

__all__ = ["Flatten"]


@register
class Flatten(Reshape):
    """Make axes `axis` to `end_axis` (both included) one. Source: ``flatten_layer.cpp``."""

    type = "Flatten"
    options = "flatten_param"

    def setup(self) -> None:
        """Nothing that can be checked without a shape."""

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The product of the sizes in their place."""
        shape = bottoms[0]
        begin, end = self.axis(self.p.axis, len(shape)), self.axis(self.p.end_axis, len(shape), "end_axis")
        if end < begin:
            raise LayerError(f"end_axis: expected at least axis {begin}, got {end}")
        return [(*shape[:begin], math.prod(shape[begin : end + 1]), *shape[end + 1 :])]
