"""ContrastiveLoss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss
from atrouscaffe.runtime.blob import Blob

__all__ = ["ContrastiveLoss"]

SMALLEST_DISTANCE = 1e-4  # added to the distance that the gradient is divided by


@register
class ContrastiveLoss(Loss):
    """Pulls similar pairs together, pushes others apart up to a margin (``contrastive_loss_layer.cpp``).

    Bottoms: a (N, C), b (N, C), similar (N), 1 or 0. With d the distance of a pair, the loss is the
    sum over pairs of d^2 for similar ones, else max(margin - d, 0)^2, by 2 N. v1 and
    ``legacy_version`` take max(margin - d^2, 0) for the others.
    """

    type = "ContrastiveLoss"
    options = "contrastive_loss_param"
    bottoms = (3, 3)

    def setup(self) -> None:
        """Choose the version."""
        self.legacy = self.p.legacy_version or self.env.dialect == "v1"
        self.margin: float = self.p.margin

    def allows_gradient(self, bottom: int) -> bool:
        """Both vectors."""
        return bottom < 2

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want two lists of vectors and one flag a pair."""
        for i in (0, 1):
            if len(bottoms[i]) < 2 or any(n != 1 for n in bottoms[i][2:]):
                raise ShapeError(f"bottom[{i}]: expected vectors (N, C), got shape {tuple(bottoms[i])}")
        self.want_same(bottoms[0], bottoms[1], "bottom[1]")
        self.want_count((bottoms[0][0],), bottoms[2], "bottom[2]")

    def _pairs(self, bottom: Sequence[Blob]) -> tuple[Any, Any, Any]:
        """Return differences (N, C), squared distances (N) and which pairs are similar (N)."""
        difference = self.items(bottom[0].array) - self.items(bottom[1].array)
        return difference, (difference * difference).sum(axis=1), bottom[2].array.reshape(-1).astype(np.int64) != 0

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss."""
        xp = ctx.xp
        _, squared, similar = self._pairs(bottom)
        gap = self.margin - (squared if self.legacy else xp.sqrt(squared))
        other = xp.maximum(gap, 0)
        loss = xp.where(similar, squared, other if self.legacy else other * other)
        top[0].array[...] = loss.sum(dtype=np.float64) / len(squared) / 2

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write plus and minus the pairs' differences, scaled."""
        xp = ctx.xp
        difference, squared, similar = self._pairs(bottom)
        distance = xp.sqrt(squared)
        if self.legacy:
            push = xp.where(self.margin - squared > 0, -1, 0)
        else:
            push = -xp.maximum(self.margin - distance, 0) / (distance + SMALLEST_DISTANCE)
        factor = xp.where(similar, 1, push) * (self.weight(top) / len(squared))
        grad = (difference * factor[:, None]).astype(bottom[0].dtype)
        for i, sign in enumerate((1, -1)):
            if ctx.propagate[i]:
                bottom[i].grad[...] = (sign * grad).reshape(bottom[i].shape)
