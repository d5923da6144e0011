"""Softmax."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.ops.softmax import softmax, softmax_grad
from atrouscaffe.runtime.blob import Blob

__all__ = ["Softmax"]


@register
class Softmax(Layer):
    """y = exp(x) / sum of exp(x) along one axis, by default the channels (``softmax_layer.cpp``)."""

    type = "Softmax"
    options = "softmax_param"
    in_place = True
    backward_reads = ("top",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        self.axis(self.p.axis, len(bottoms[0]), "softmax_param.axis")
        return [bottoms[0]]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the probabilities."""
        shape = fold(bottom[0].shape, self.axis(self.p.axis, len(bottom[0].shape)))
        softmax(bottom[0].array.reshape(shape), top[0].array.reshape(shape))

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = y (dy - sum of y dy)."""
        if ctx.propagate[0]:
            shape = fold(bottom[0].shape, self.axis(self.p.axis, len(bottom[0].shape)))
            softmax_grad(top[0].array.reshape(shape), top[0].grad.reshape(shape), bottom[0].grad.reshape(shape))
