"""SpatialProduct."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.elementwise import over_tiles
from atrouscaffe.runtime.blob import Blob

__all__ = ["SpatialProduct"]


@register
class SpatialProduct(Layer):
    """Multiplies every channel by a map of one channel, as an attention map does (v2's ``spatial_product_layer.cpp``).

    Bottoms (N, C, H, W) and (N, 1, H, W); both get gradients.
    """

    type = "SpatialProduct"
    bottoms = (2, 2)
    backward_reads = ("bottom",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the first bottom's shape."""
        self.want_rank(bottoms[0], 4)
        self.want_same((bottoms[0][0], 1, *bottoms[0][2:]), bottoms[1], "bottom[1]")
        return [bottoms[0]]

    @staticmethod
    def _shape(blob: Blob) -> tuple[int, int, int]:
        n, c, h, w = blob.shape
        return n, c, h * w

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """y = x s."""
        shape = self._shape(bottom[0])
        x, y, s = bottom[0].array.reshape(shape), top[0].array.reshape(shape), bottom[1].array.reshape(shape[0], 1, -1)

        def work(rows: slice, columns: slice) -> None:
            ctx.xp.multiply(x[rows, :, columns], s[rows, :, columns], out=y[rows, :, columns])

        over_tiles(shape, work, ctx.xp)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = dy s, ds = sum over channels of dy x."""
        shape = self._shape(bottom[0])
        x, s = bottom[0].array.reshape(shape), bottom[1].array.reshape(shape[0], 1, -1)
        dy, dx, ds = top[0].grad.reshape(shape), bottom[0].grad.reshape(shape), bottom[1].grad.reshape(s.shape)

        def work(rows: slice, columns: slice) -> None:
            grad = dy[rows, :, columns]
            if ctx.propagate[1]:
                ctx.xp.sum(grad * x[rows, :, columns], axis=1, keepdims=True, out=ds[rows, :, columns])
            if ctx.propagate[0]:
                ctx.xp.multiply(grad, s[rows, :, columns], out=dx[rows, :, columns])

        over_tiles(shape, work, ctx.xp)
