"""Concat: bottoms side by side along an axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Concat"]


@register
class Concat(Layer):
    """Join bottoms along `axis` (old word: concat_dim). Source: ``concat_layer.cpp``."""

    type = "Concat"
    options = "concat_param"
    bottoms = (1, None)
    backward_reads = ()

    def setup(self) -> None:
        """Choose between the two words."""
        if self.p.has("axis") and self.p.has("concat_dim"):
            raise LayerError(f"axis: expected axis or concat_dim, got both ({self.p.axis}, {self.p.concat_dim})")

    def _axis(self, rank: int) -> int:
        if self.p.has("concat_dim"):
            return self.axis(self.p.concat_dim, rank, "concat_dim")
        return self.axis(self.p.axis, rank)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Sizes along the axis are added, the others are equal."""
        axis = self._axis(len(bottoms[0]))
        for i, shape in enumerate(bottoms):
            if len(shape) != len(bottoms[0]) or any(
                    a != b for j, (a, b) in enumerate(zip(bottoms[0], shape)) if j != axis):
                raise ShapeError(f"bottom[{i}]: expected shape {tuple(bottoms[0])} but for axis {axis}, got "
                                 f"{tuple(shape)}")
        total = sum(shape[axis] for shape in bottoms)
        return [(*bottoms[0][:axis], total, *bottoms[0][axis + 1 :])]

    def parts(self, bottoms: Sequence[Shape]) -> Sequence[int]:
        """Return where the bottoms lie, unless there are several places for each."""
        axis = self._axis(len(bottoms[0]))
        if math.prod(bottoms[0][:axis]) != 1:
            return ()
        return [0, *itertools.accumulate(math.prod(shape) for shape in bottoms[:-1])]

    def _parts(self, bottom: Sequence[Blob]) -> list[tuple[slice, ...]]:
        axis, begin, parts = self._axis(len(bottom[0].shape)), 0, []
        for blob in bottom:
            end = begin + blob.shape[axis]
            parts.append((slice(None),) * axis + (slice(begin, end),))
            begin = end
        return parts

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        for i, (blob, part) in enumerate(zip(bottom, self._parts(bottom))):
            if not (ctx.placed and ctx.placed[i]):
                top[0].array[part] = blob.array

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back."""
        for i, (blob, part) in enumerate(zip(bottom, self._parts(bottom))):
            if ctx.propagate[i]:
                blob.grad[...] = top[0].grad[part]
