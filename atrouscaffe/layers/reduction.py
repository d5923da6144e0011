"""Reduction: one number from the last axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Reduction"]


@register
class Reduction(Layer):
    """SUM, ASUM (of absolute values), SUMSQ or MEAN over axes `axis` and behind, times coeff.

    Source: ``reduction_layer.cpp``.
    """

    type = "Reduction"
    options = "reduction_param"

    def setup(self) -> None:
        """Say what backward looks at."""
        self.backward_reads = ("bottom",) if self.p.operation in ("ASUM", "SUMSQ") else ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The axes in front."""
        axis = self.axis(self.p.axis, len(bottoms[0]))
        if 0 in bottoms[0][axis:]:
            raise ShapeError(f"bottom[0]: expected at least one value behind axis {axis}, got shape {bottoms[0]}")
        return [tuple(bottoms[0][:axis])]

    def _rows(self, array: Any, shape: Shape) -> Any:
        axis = self.axis(self.p.axis, len(shape))
        return array.reshape(math.prod(shape[:axis]), math.prod(shape[axis:]))

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Reduce."""
        x = self._rows(bottom[0].array, bottom[0].shape)
        if self.p.operation == "ASUM":
            total = ctx.xp.abs(x).sum(axis=1)
        elif self.p.operation == "SUMSQ":
            total = (x * x).sum(axis=1)
        else:
            total = x.sum(axis=1)
        factor = self.p.coeff / (x.shape[1] if self.p.operation == "MEAN" else 1)
        top[0].array[...] = (total * factor).reshape(top[0].shape)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """coeff, with ASUM times the sign, with SUMSQ times 2x, with MEAN over the number of values."""
        dx = self._rows(bottom[0].grad, bottom[0].shape)
        factor = self.p.coeff / (dx.shape[1] if self.p.operation == "MEAN" else 1)
        gradient = (top[0].grad * factor).reshape(-1, 1)
        if self.p.operation == "ASUM":
            ctx.xp.multiply(gradient, ctx.xp.sign(self._rows(bottom[0].array, bottom[0].shape)), out=dx)
        elif self.p.operation == "SUMSQ":
            ctx.xp.multiply(2 * gradient, self._rows(bottom[0].array, bottom[0].shape), out=dx)
        else:
            dx[...] = gradient

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """The whole image, unless only axes behind it are reduced."""
        return GLOBAL, GLOBAL
