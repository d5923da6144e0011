"""Split: copies of a blob."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Split"]


@register
class Split(Layer):
    """Write the bottom to every top; gradients are added up.

    The original's tops share the bottom's memory; here each is a copy of its own, so that a layer
    that works in place on one changes no other. Source: ``split_layer.cpp``.
    """

    type = "Split"
    tops = (1, None)
    same_values = True
    backward_reads = ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom, each."""
        return [bottoms[0]] * max(1, len(self.spec.tops))

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        for blob in () if any(ctx.placed) else top:
            blob.array[...] = bottom[0].array

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add up."""
        dx = bottom[0].grad
        dx[...] = top[0].grad
        for blob in top[1:]:
            dx += blob.grad
