"""SigmoidCrossEntropyLoss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss, normalization, normalizer
from atrouscaffe.ops.activation import sigmoid
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["SigmoidCrossEntropyLoss"]


@register
class SigmoidCrossEntropyLoss(Loss):
    """Cross entropy of sigmoid(x) against targets in [0, 1], element by element.

    Divided by the number of items unless ``loss_param`` says otherwise; elements whose target is
    ``loss_param.ignore_label`` do not count (both from BVLC's ``sigmoid_cross_entropy_loss_layer.cpp``;
    the forks' older one has neither, and nets for them do not set them).
    """

    type = "SigmoidCrossEntropyLoss"
    options = "loss_param"

    def setup(self) -> None:
        """Read the normalisation."""
        self.mode = normalization(self.p, "BATCH_SIZE")
        self.ignore = int(self.p.ignore_label) if self.p.has("ignore_label") else None

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want as many targets as inputs."""
        self.want_count(bottoms[0], bottoms[1], "bottom[1]")
        super().check_bottoms(bottoms)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss: max(x, 0) - x t + log(1 + exp(-|x|)), which cannot overflow."""
        xp, x, target = ctx.xp, bottom[0].array.reshape(-1), bottom[1].array.reshape(-1)
        loss = xp.log1p(xp.exp(-xp.abs(x))) + xp.maximum(x, 0) - x * target
        valid = x.size
        if self.ignore is not None:
            counted = bottom[1].host().reshape(-1).astype(np.int64) != self.ignore
            loss, valid = loss[ctx.backend.asarray(counted)], int(np.count_nonzero(counted))
        outer = bottom[0].shape[0]
        divisor = normalizer(self.mode, outer, x.size // max(1, outer), float(valid))
        ctx.saved["divisor"] = divisor
        top[0].array[...] = loss.sum(dtype=np.float64) / divisor

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write (sigmoid(x) - t) / divisor, 0 where the target is ignored."""
        if not ctx.propagate[0]:
            return
        factor = self.weight(top) / ctx.saved["divisor"]

        def kernel(xp: Any, x: Any, target: Any, dx: Any) -> None:
            sigmoid(xp, x, dx)
            dx -= target
            dx *= factor
            if self.ignore is not None:
                dx[target.astype("int64") == self.ignore] = 0

        spread(ctx.xp, kernel, bottom[0].array, bottom[1].array, bottom[0].grad)
