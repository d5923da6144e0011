"""Permute of SSD: another order of the axes."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Permute"]


@register
class Permute(Layer):
    """Write axis ``order[i]`` of the bottom as axis i; axes that are not named follow in order.

    Source: ``permute_layer.cpp`` of SSD.
    """

    type = "Permute"
    options = "permute_param"
    backward_reads = ()

    def setup(self) -> None:
        """Check that no axis is named twice."""
        if len(set(self.p.order)) != len(self.p.order):
            raise LayerError(f"order: expected each axis once, got {tuple(self.p.order)}")

    def _order(self, rank: int) -> tuple[int, ...]:
        order = tuple(self.p.order)
        if any(axis >= rank for axis in order):
            raise LayerError(f"order: expected axes 0 to {rank - 1}, got {order}")
        return order + tuple(axis for axis in range(rank) if axis not in order)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Sizes in the new order."""
        return [tuple(bottoms[0][axis] for axis in self._order(len(bottoms[0])))]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        top[0].array[...] = bottom[0].array.transpose(self._order(len(bottom[0].shape)))

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back."""
        order = self._order(len(bottom[0].shape))
        bottom[0].grad[...] = top[0].grad.transpose(tuple(order.index(axis) for axis in range(len(order))))

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Pixels, as long as height and width stay where they are; else no longer pixels."""
        rank = len(bottoms[0])
        if rank == 4 and self._order(rank)[2:] == (2, 3):
            return Reach(), Reach()
        return Reach(everything=True), Reach(everything=True)
