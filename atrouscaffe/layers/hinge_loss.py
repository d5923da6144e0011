"""HingeLoss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.runtime.blob import Blob

__all__ = ["HingeLoss"]


@register
class HingeLoss(Loss):
    """Sum over items and classes of max(0, 1 - t x), or of its square (norm L2), by the number of items.

    t is 1 for the labelled class and -1 for the others (``hinge_loss_layer.cpp``).
    """

    type = "HingeLoss"
    options = "hinge_loss_param"

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want one label for each item."""
        super().check_bottoms(bottoms)
        self.check_one_label_each(bottoms)

    def _margins(self, ctx: Context, bottom: Sequence[Blob]) -> tuple[Any, Any]:
        """Return max(0, 1 - t x) and t, both (items, classes)."""
        xp, x = ctx.xp, self.items(bottom[0].array)
        labels = ctx.backend.asarray(read_labels(bottom[1].host(), x.shape[1]).reshape(-1))
        sign = xp.full(x.shape, -1, x.dtype)
        sign[xp.arange(len(x)), labels] = 1
        return xp.maximum(0, 1 - sign * x), sign

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss."""
        margins, _ = self._margins(ctx, bottom)
        total = margins if self.p.norm == "L1" else margins * margins
        top[0].array[...] = total.sum(dtype=np.float64) / len(margins)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write -t where the margin is violated, times twice the margin with L2."""
        if ctx.propagate[0]:
            margins, sign = self._margins(ctx, bottom)
            slope = ctx.xp.sign(margins) if self.p.norm == "L1" else 2 * margins
            bottom[0].grad[...] = (-sign * slope * (self.weight(top) / len(margins))).reshape(bottom[0].shape)
