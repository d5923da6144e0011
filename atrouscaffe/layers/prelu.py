"""PReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import Blueprint, Context, Shape, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.activation import leaky, leaky_grad
from atrouscaffe.ops.elementwise import fold, over_tiles
from atrouscaffe.runtime.blob import Blob

__all__ = ["PReLU"]


@register
class PReLU(Pointwise):
    """y = max(x, 0) + slope min(x, 0) with learned slopes, one a channel or one for all (``prelu_layer.cpp``).

    He et al., 2015. Slopes start at 0.25 unless a filler is given. In place a copy of x is kept.
    """

    type = "PReLU"
    options = "prelu_param"
    backward_reads = ("bottom",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        if len(bottoms[0]) < 2:
            raise ShapeError(f"bottom[0]: expected at least 2 axes, channels second, got shape {tuple(bottoms[0])}")
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Return the slopes."""
        shape = () if self.p.channel_shared else (bottoms[0][1],)
        return [Blueprint(shape, self.p.filler if self.p.has("filler") else None, "slope", 0.25)]

    def _slopes(self, array: Any) -> Any:
        """Slopes as (1, channels or 1, 1), to go with (outer, channels, inner)."""
        return array.reshape(1, -1, 1)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map."""
        if ctx.keeps and bottom[0] is top[0]:
            ctx.saved["input"] = bottom[0].array.copy()
        shape = fold(bottom[0].shape, 1)
        x, y, slope = bottom[0].array.reshape(shape), top[0].array.reshape(shape), self._slopes(params[0].array)

        def work(rows: slice, columns: slice) -> None:
            leaky(np, x[rows, :, columns], slope, y[rows, :, columns])

        over_tiles(shape, work)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = dy where x > 0, else slope dy; each slope gets the sum of dy min(x, 0)."""
        shape = fold(bottom[0].shape, 1)
        x = (ctx.saved["input"] if bottom[0] is top[0] else bottom[0].array).reshape(shape)
        dy, dx = top[0].grad.reshape(shape), bottom[0].grad.reshape(shape)
        slope = self._slopes(params[0].array)

        def work(rows: slice, columns: slice) -> Any:
            part, grad = x[rows, :, columns], dy[rows, :, columns]
            total = None
            if ctx.param_propagate[0]:  # before dx is written, which may be dy
                below = np.minimum(part, 0)
                below *= grad
                total = below.sum(axis=(0, 2))
            if ctx.propagate[0]:
                leaky_grad(np, part, slope, grad, dx[rows, :, columns])
            return total

        sums = over_tiles(shape, work)
        if ctx.param_propagate[0]:
            total = np.sum(sums, axis=0)
            params[0].grad[...] += total.sum() if self.p.channel_shared else total
