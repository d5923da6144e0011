"""Axpy of SENet: a branch scaled by channel, added to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.channels import affine, channel_sums
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["Axpy"]


@register
class Axpy(Layer):
    """y = a x + z; bottoms: a (N, C) or (N, C, 1, 1), x and z (N, C, ...).

    Source: ``axpy_layer.cpp`` of SENet (Hu et al., 2017). There x gets its gradient only where a does; here always.
    """

    type = "Axpy"
    bottoms = (3, 3)
    backward_reads = ("bottom",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As x."""
        factor, x, z = bottoms
        if len(x) < 2 or tuple(factor[:2]) != tuple(x[:2]) or any(n != 1 for n in factor[2:]):
            raise ShapeError(f"bottom[0]: expected one number for each item and channel of bottom[1] {tuple(x)}, "
                             f"got shape {tuple(factor)}")
        self.want_same(x, z, "bottom[2]")
        return [x]

    @staticmethod
    def _planes(factor: Any, *arrays: Any) -> list[Any]:
        """View arrays as (1, N * C, pixels)."""
        return [array.reshape(1, factor.size, math.prod(array.shape[2:])) for array in arrays]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Multiply and add."""
        factor = bottom[0].array
        x, y = self._planes(factor, bottom[1].array, top[0].array)
        affine(x, factor.reshape(-1), None, y)
        spread(ctx.xp, lambda xp, z, y: xp.add(y, z, out=y), bottom[2].array, top[0].array)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """da = sums of ``dy x``; dx = a dy; dz = dy."""
        factor = bottom[0].array
        x, dy = self._planes(factor, bottom[1].array, top[0].grad)
        if ctx.propagate[0]:
            bottom[0].grad[...] = channel_sums(dy, x).reshape(factor.shape)
        if ctx.propagate[1]:
            affine(dy, factor.reshape(-1), None, self._planes(factor, bottom[1].grad)[0])
        if ctx.propagate[2]:
            bottom[2].grad[...] = top[0].grad
