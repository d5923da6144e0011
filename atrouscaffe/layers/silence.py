"""Silence."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Silence"]


@register
class Silence(Layer):
    """Takes blobs that nobody reads, so that they are not outputs of the net (``silence_layer.cpp``).

    Their gradient is 0, as in v2 and BVLC; v1 leaves it as it was.
    """

    type = "Silence"
    bottoms = (1, None)
    tops = (0, 0)
    backward_reads = ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return no shapes."""
        return []

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Do nothing."""

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Set the gradients to 0."""
        for blob, wanted in zip(bottom, ctx.propagate):
            if wanted:
                blob.grad[...] = 0
