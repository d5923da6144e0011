"""EuclideanLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.blob import Blob

__all__ = ["EuclideanLoss"]

SMALLEST_LOSS = 1e-6  # the original's guard of the square root's derivative


@register
class EuclideanLoss(Loss):
    """Half the sum of squared differences (``euclidean_loss_layer.cpp``).

    v2 and BVLC divide it by the number of items; v1 by the number of elements, or with type L2sqrt
    takes the square root of the mean square. Both bottoms get gradients.
    """

    type = "EuclideanLoss"
    options = "euclidean_loss_param"

    def setup(self) -> None:
        """Choose the form."""
        self.root = self.p.type == "L2sqrt"
        self.by_element = self.root or self.env.dialect == "v1"

    def allows_gradient(self, bottom: int) -> bool:
        """Both bottoms."""
        return True

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want as many elements in both, in as many items."""
        super().check_bottoms(bottoms)
        self.want_count(bottoms[0], bottoms[1], "bottom[1]")

    def _divisor(self, blob: Blob) -> float:
        return float(max(1, blob.count if self.by_element else blob.shape[0]))

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss; squares are added up in float64."""
        difference = (bottom[0].array.reshape(-1) - bottom[1].array.reshape(-1)).astype(np.float64)
        total = (difference * difference).sum() if on_device(difference) else float(difference @ difference)
        mean = total / self._divisor(bottom[0])
        loss = math.sqrt(mean) if self.root else 0.5 * mean
        ctx.saved["loss"] = loss
        top[0].array[...] = loss

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write plus and minus the scaled difference."""
        factor = self.weight(top) / self._divisor(bottom[0])
        if self.root:
            factor /= max(ctx.saved["loss"], SMALLEST_LOSS)

        def kernel(xp, a, b, d, sign):
            xp.subtract(a, b, out=d)
            d *= sign * factor

        for i, sign in enumerate((1, -1)):
            if ctx.propagate[i]:
                spread(ctx.xp, lambda xp, a, b, d, sign=sign: kernel(xp, a, b, d, sign),
                       bottom[0].array, bottom[1].array, bottom[i].grad)
