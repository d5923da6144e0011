"""MultinomialLogisticLoss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.runtime.blob import Blob

__all__ = ["MultinomialLogisticLoss"]

SMALLEST_PROBABILITY = 1e-20  # kLOG_THRESHOLD


@register
class MultinomialLogisticLoss(Loss):
    """Mean over items of -log p[label], for bottoms that are probabilities already.

    ``multinomial_logistic_loss_layer.cpp``; probabilities below 1e-20 count as 1e-20.
    """

    type = "MultinomialLogisticLoss"

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want one label for each item."""
        super().check_bottoms(bottoms)
        self.check_one_label_each(bottoms)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss."""
        xp, p = ctx.xp, self.items(bottom[0].array)
        labels = ctx.backend.asarray(read_labels(bottom[1].host(), p.shape[1]).reshape(-1))
        chosen = xp.maximum(p[xp.arange(len(p)), labels], SMALLEST_PROBABILITY)
        ctx.saved.update(labels=labels, chosen=chosen)
        top[0].array[...] = -xp.log(chosen).sum(dtype=np.float64) / len(p)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write -1 / p at the label, 0 elsewhere."""
        if ctx.propagate[0]:
            grad = self.items(bottom[0].grad)
            grad[...] = 0
            grad[ctx.xp.arange(len(grad)), ctx.saved["labels"]] = -self.weight(top) / len(grad) / ctx.saved["chosen"]
