"""Tile: a blob repeated along an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import GLOBAL, POINTWISE, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Tile"]


@register
class Tile(Layer):
    """Repeat the bottom `tiles` times along `axis`. Source: ``tile_layer.cpp``."""

    type = "Tile"
    options = "tile_param"
    backward_reads = ()

    def setup(self) -> None:
        """Check the number."""
        if not self.p.has("tiles") or self.p.tiles < 1:
            raise LayerError(f"tiles: expected at least 1, got {self.p.tiles if self.p.has('tiles') else 'none'}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The size along the axis, times tiles."""
        axis = self.axis(self.p.axis, len(bottoms[0]))
        return [(*bottoms[0][:axis], bottoms[0][axis] * self.p.tiles, *bottoms[0][axis + 1 :])]

    def _tiles(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """View the top as (…, tiles, size, …) of a bottom of `shape`."""
        axis = self.axis(self.p.axis, len(shape))
        return array.reshape(*shape[:axis], self.p.tiles, *shape[axis:])

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        shape = bottom[0].shape
        axis = self.axis(self.p.axis, len(shape))
        self._tiles(top[0].array, shape)[...] = ctx.xp.expand_dims(bottom[0].array, axis)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add up."""
        shape = bottom[0].shape
        ctx.xp.sum(self._tiles(top[0].grad, shape), axis=self.axis(self.p.axis, len(shape)), out=bottom[0].grad)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Pixels, unless height or width is repeated."""
        moved = self.axis(self.p.axis, len(bottoms[0])) >= 2
        return (GLOBAL, GLOBAL) if moved else (POINTWISE, POINTWISE)
