"""CReLU: both halves of each value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.runtime.blob import Blob

__all__ = ["CReLU"]


@register
class CReLU(Layer):
    """Concatenate relu(x) and relu(-x) along an axis, which grows to twice its size.

    ``crelu_param``: concat_axis (default 1), negative_slope. Source: Shang et al., 2016, and ``crelu_layer.cpp`` of
    Cambricon's Caffe.
    """

    type = "CReLU"
    options = "crelu_param"
    backward_reads = ("bottom",)

    def _axis(self, shape: Shape) -> int:
        return self.axis(self.p.concat_axis, len(shape), "crelu_param.concat_axis")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Twice the size along the axis."""
        axis = self._axis(bottoms[0])
        return [(*bottoms[0][:axis], 2 * bottoms[0][axis], *bottoms[0][axis + 1:])]

    def _halves(self, x: Any, y: Any) -> list[Any]:
        """View the bottom, and the two halves of the top, as (outer, values)."""
        outer, channels, inner = fold(x.shape, self._axis(x.shape))
        halves = y.reshape(outer, 2, channels * inner)
        return [x.reshape(outer, channels * inner), halves[:, 0], halves[:, 1]]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write both halves."""
        x, above, below = self._halves(bottom[0].array, top[0].array)
        for half, values in ((above, x), (below, -x)):
            ctx.xp.maximum(values, 0, out=half)
            if self.p.negative_slope:
                half += ctx.xp.minimum(values, 0) * self.p.negative_slope

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = dy of the first half where x > 0, minus that of the second where x < 0; the slope elsewhere."""
        x, above, below = self._halves(bottom[0].array, top[0].grad)
        slope = x.dtype.type(self.p.negative_slope)
        one = x.dtype.type(1)
        bottom[0].grad.reshape(x.shape)[...] = (above * ctx.xp.where(x > 0, one, slope)
                                                - below * ctx.xp.where(x < 0, one, slope))
