"""Filter: keep the items that a selector names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Filter"]


@register
class Filter(Layer):
    """Keep those items of each bottom whose entry in the last bottom is not 0.

    Tops have as many items as are kept, so their shape is known only after forward; until then it
    is the bottoms'. Source: ``filter_layer.cpp``.
    """

    type = "Filter"
    bottoms = (2, None)
    tops = (1, None)
    backward_reads = ("bottom",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottoms, were all items kept."""
        *data, selector = bottoms
        if len(data) != len(self.spec.tops):
            raise ShapeError(f"tops: expected {len(data)}, one for each bottom but the selector, got "
                             f"{len(self.spec.tops)}")
        if not selector or any(n != 1 for n in selector[1:]):
            raise ShapeError(f"bottom[{len(data)}] (selector): expected one number an item, got shape {selector}")
        for i, shape in enumerate(data):
            if not shape or shape[0] != selector[0]:
                raise ShapeError(f"bottom[{i}]: expected {selector[0]} items, as the selector, got shape {shape}")
        return [tuple(shape) for shape in data]

    def allows_gradient(self, bottom: int) -> bool:
        """Not the selector."""
        return bottom < len(self.spec.bottoms) - 1

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy the chosen items; tops change their shape."""
        kept = ctx.backend.asarray(np.flatnonzero(bottom[-1].host().ravel() != 0))
        for below, above in zip(bottom, top):
            above.reshape(len(kept), *below.shape[1:])
            above.array[...] = below.array[kept]
        ctx.saved["kept"] = kept

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back; items that were left out get zero."""
        for i, above in enumerate(top):
            if ctx.propagate[i]:
                bottom[i].grad[...] = 0
                bottom[i].grad[ctx.saved["kept"]] = above.grad
