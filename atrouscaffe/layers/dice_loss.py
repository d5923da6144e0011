"""DiceLoss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss
from atrouscaffe.runtime.blob import Blob

__all__ = ["DiceLoss"]

EPS = 1e-6


@register
class DiceLoss(Loss):
    """1 - (2 sum(t s) + eps) / (sum(t) + sum(s) + eps), with s = sigmoid(x), t the targets in [0, 1], eps = 1e-6.

    Notes
    -----
    Sums run over the whole batch. Several forks have a layer of this name; this is the one whose scores and targets
    are of one shape (``dice_loss_layer.cpp`` with a sigmoid inside; Milletari et al., 2016). Those that take a map of
    class numbers write a dice instead of a loss and a gradient that is not its derivative: they are refused.
    """

    type = "DiceLoss"

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want as many targets as scores."""
        if not bottoms[0] or tuple(bottoms[0]) != tuple(bottoms[1]):
            raise ShapeError(f"bottom[1]: expected targets of bottom[0]'s shape {tuple(bottoms[0])}, one for each "
                             f"score, got shape {tuple(bottoms[1])}")

    @staticmethod
    def _sums(xp: Any, share: Any, target: Any) -> tuple[Any, Any]:
        """Return numerator and denominator, float64."""
        both = (share * target).sum(dtype="float64")
        return 2 * both + EPS, share.sum(dtype="float64") + target.sum(dtype="float64") + EPS

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss."""
        share = 1 / (1 + ctx.xp.exp(-bottom[0].array))
        shared, total = self._sums(ctx.xp, share, bottom[1].array)
        top[0].array[...] = 1 - shared / total

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = -(2 t total - shared) / total^2 s (1 - s)."""
        if not ctx.propagate[0]:
            return
        share, target = 1 / (1 + ctx.xp.exp(-bottom[0].array)), bottom[1].array
        shared, total = self._sums(ctx.xp, share, target)
        slope = (shared - 2 * target * total) / (total * total)
        bottom[0].grad[...] = slope * share * (1 - share) * self.weight(top)
