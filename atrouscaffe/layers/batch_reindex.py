"""BatchReindex: choose and repeat items of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import DataError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.rows import add_rows, take_rows
from atrouscaffe.runtime.blob import Blob

__all__ = ["BatchReindex"]


@register
class BatchReindex(Layer):
    """Write item ``bottom[1][i]`` of bottom[0] as item i. Source: ``batch_reindex_layer.cpp``."""

    type = "BatchReindex"
    bottoms = (2, 2)
    backward_reads = ("bottom",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many items as there are indices."""
        self.want_rank(bottoms[1], 1, "bottom[1]")
        return [(bottoms[1][0], *bottoms[0][1:])]

    def allows_gradient(self, bottom: int) -> bool:
        """Indices have none."""
        return bottom == 0

    def _indices(self, bottom: Sequence[Blob]) -> np.ndarray:
        values, items = bottom[1].host(), bottom[0].shape[0]
        if values.size and not (values.min() >= 0 and values.max() < items):
            raise DataError(f"bottom[1]: expected indices 0 to {items - 1}, got {values.min():g} to {values.max():g}")
        return values.astype(np.intp)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy items."""
        take_rows(bottom[0].array, self._indices(bottom), top[0].array)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add up the gradients of an item's copies, in order."""
        bottom[0].grad[...] = 0
        add_rows(bottom[0].grad, self._indices(bottom), top[0].grad)
