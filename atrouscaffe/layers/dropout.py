"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.layers.tail import IDENTITY
from atrouscaffe.ops.dropout import apply_mask, dropout
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import TRAIN

__all__ = ["Dropout"]


@register
class Dropout(Pointwise):
    """Sets values to 0 with probability dropout_ratio and scales the others by 1 / (1 - dropout_ratio).

    Only in phase TRAIN; in TEST the identity (``dropout_layer.cpp``; Srivastava et al., 2014), unless
    ``sample_weights_test`` is true, as in Bayesian SegNet: then each pass is one sample of the net
    (``dropout_layer.cpp`` of SegNet's and ENet's Caffe; Kendall et al., 2015).
    """

    type = "Dropout"
    options = "dropout_param"
    backward_reads = ()

    def setup(self) -> None:
        """Check the ratio."""
        self.ratio: float = self.p.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise LayerError(f"dropout_param.dropout_ratio: expected at least 0 and below 1, got {self.ratio:g}")
        self.draws = self.env.phase == TRAIN or bool(self.p.sample_weights_test)

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Nothing is left to do where it draws nothing."""
        return "" if self.draws else IDENTITY

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Draw a mask and apply it, or copy."""
        x, y = bottom[0].array, top[0].array
        if self.draws:
            mask = dropout(x, y, self.ratio, ctx.rng)
            if ctx.keeps:
                ctx.saved["mask"] = mask
        elif bottom[0] is not top[0]:
            spread(ctx.xp, lambda xp, x, y: xp.copyto(y, x), x, y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Apply the mask of the forward pass to the gradient, or copy."""
        if not ctx.propagate[0]:
            return
        dy, dx = top[0].grad, bottom[0].grad
        if self.draws:
            apply_mask(ctx.saved["mask"], dy, dx, self.ratio)
        elif bottom[0] is not top[0]:
            spread(ctx.xp, lambda xp, dy, dx: xp.copyto(dx, dy), dy, dx)
