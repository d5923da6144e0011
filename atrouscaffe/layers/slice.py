"""Slice: a bottom cut along an axis."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Slice"]


@register
class Slice(Layer):
    """Cut along `axis` (old word: slice_dim) at each slice_point, or into equal parts.

    Source: ``slice_layer.cpp``.
    """

    type = "Slice"
    options = "slice_param"
    tops = (1, None)
    backward_reads = ()

    def setup(self) -> None:
        """Choose between the two words; count the points."""
        if self.p.has("axis") and self.p.has("slice_dim"):
            raise LayerError(f"axis: expected axis or slice_dim, got both ({self.p.axis}, {self.p.slice_dim})")
        points, tops = tuple(self.p.slice_point), len(self.spec.tops)
        if points and len(points) != tops - 1:
            raise LayerError(f"slice_point: expected {tops - 1}, one fewer than tops, got {len(points)}")
        if any(b <= a for a, b in zip((0, *points), points)):
            raise LayerError(f"slice_point: expected rising positive numbers, got {points}")

    def _cuts(self, shape: Shape) -> tuple[int, list[int]]:
        """Return (axis, where the parts begin and end)."""
        if self.p.has("slice_dim"):
            axis = self.axis(self.p.slice_dim, len(shape), "slice_dim")
        else:
            axis = self.axis(self.p.axis, len(shape))
        size, tops, points = shape[axis], len(self.spec.tops), tuple(self.p.slice_point)
        if points:
            if points[-1] >= size:
                raise ShapeError(f"slice_point: expected less than {size} (axis {axis} of shape {shape}), got "
                                 f"{points[-1]}")
            return axis, [0, *points, size]
        if size % tops:
            raise ShapeError(f"axis {axis}: expected a multiple of {tops}, the number of tops, got {size} (shape "
                             f"{shape})")
        return axis, list(range(0, size + 1, max(1, size // tops)))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The parts."""
        axis, cuts = self._cuts(bottoms[0])
        return [(*bottoms[0][:axis], b - a, *bottoms[0][axis + 1 :]) for a, b in itertools.pairwise(cuts)]

    def _parts(self, shape: Shape) -> list[tuple[slice, ...]]:
        axis, cuts = self._cuts(shape)
        return [(slice(None),) * axis + (slice(a, b),) for a, b in itertools.pairwise(cuts)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        for blob, part in zip(top, self._parts(bottom[0].shape)):
            blob.array[...] = bottom[0].array[part]

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back."""
        for blob, part in zip(top, self._parts(bottom[0].shape)):
            bottom[0].grad[part] = blob.grad
