"""SmoothL1Loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss
from atrouscaffe.runtime.blob import Blob

__all__ = ["SmoothL1Loss"]


@register
class SmoothL1Loss(Loss):
    """Sum of w_out f(w_in (x - t)) by the number of items; f is (sigma d)^2 / 2 below 1 / sigma^2, else |d| less half.

    Bottoms: x, t, and weights w_in and w_out of their shape where given. ``smooth_l1_loss_param``: sigma (1).
    Source: ``smooth_L1_loss_layer.cu`` of Fast R-CNN's Caffe (Girshick, 2015), and SSD's with one weight.
    """

    type = "SmoothL1Loss"
    options = "smooth_l1_loss_param"
    bottoms = (2, 4)

    def setup(self) -> None:
        """Check sigma."""
        if not 0 < self.p.sigma < float("inf"):
            raise LayerError(f"smooth_l1_loss_param.sigma: expected a finite number above 0, got {self.p.sigma:g}")
        self.square = float(self.p.sigma) ** 2

    def allows_gradient(self, bottom: int) -> bool:
        """x and t."""
        return bottom < 2

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want one shape."""
        for i, shape in enumerate(bottoms):
            self.want_count(bottoms[0], shape, f"bottom[{i}]")
        super().check_bottoms(bottoms)

    @staticmethod
    def _difference(bottom: Sequence[Blob]) -> tuple[Any, Any, Any]:
        """Return the weighted difference and the weights, 1 where there are none."""
        x = bottom[0].array
        inner, outer = (bottom[i].array.reshape(x.shape) if len(bottom) > i else 1 for i in (2, 3))
        return (x - bottom[1].array.reshape(x.shape)) * inner, inner, outer

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss."""
        xp = ctx.xp
        difference, _, outer = self._difference(bottom)
        size = xp.abs(difference)
        each = xp.where(size < 1 / self.square, size * size * (self.square / 2), size - 0.5 / self.square) * outer
        top[0].array[...] = each.sum(dtype="float64") / max(1, bottom[0].shape[0])

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """f' times the weights for x, its negative for t."""
        difference, inner, outer = self._difference(bottom)
        slope = ctx.xp.clip(difference * self.square, -1, 1) * inner * outer
        slope = slope * (self.weight(top) / max(1, bottom[0].shape[0]))
        for i, sign in ((0, 1), (1, -1)):
            if ctx.propagate[i]:
                bottom[i].grad[...] = (sign * slope).reshape(bottom[i].shape)
