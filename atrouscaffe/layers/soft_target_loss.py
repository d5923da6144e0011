"""SoftTargetLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss, normalization, normalizer
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.ops.softmax import soft_cross_entropy, soft_cross_entropy_grad
from atrouscaffe.runtime.blob import Blob

__all__ = ["SoftTargetLoss"]


@register
class SoftTargetLoss(Loss):
    """Cross entropy of the softmax of bottom 0 against another net's scores, bottom 1, both softened by a temperature.

    Bottom 1 has the shape of bottom 0 and gets no gradient. An optional bottom 2 has a label for each
    pixel: those equal to ``loss_param.ignore_label`` are left out. ``loss_param.normalization`` is VALID
    (the default: counted pixels), FULL (all pixels), BATCH_SIZE or NONE.

    Notes
    -----
    With q = softmax(teacher / T) and p = softmax(x / T), loss = T² · sum of -q log p / divisor and
    gradient = T (p - q) / divisor. The factor T² keeps gradients at the size they have at T = 1 (Hinton,
    Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015, section 2). At its least the loss
    is T² times the mean entropy of q, not 0. No Caffe has this layer.
    """

    type = "SoftTargetLoss"
    options = "soft_target_loss_param"
    bottoms = (2, 3)

    def setup(self) -> None:
        """Check the options."""
        self.temperature = float(self.p.temperature)
        if not 0 < self.temperature < math.inf:
            raise LayerError(f"soft_target_loss_param.temperature: expected a number above 0, got {self.temperature}")
        loss = self.spec.fields.loss_param
        self.ignore = int(loss.ignore_label) if loss.has("ignore_label") else None
        if len(self.spec.bottoms) == 3 and self.ignore is None:
            raise LayerError("bottom[2] (labels) says which pixels to leave out; expected loss_param.ignore_label "
                             "with it")
        self.mode = normalization(loss, "VALID")

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want two maps of scores of one shape, and one label for each of their pixels."""
        if len(bottoms[0]) < 2:
            raise ShapeError(f"bottom[0]: expected at least 2 axes, got shape {tuple(bottoms[0])}")
        self.want_same(bottoms[0], bottoms[1], "bottom[1]")
        if len(bottoms) > 2:
            outer, _, inner = fold(bottoms[0], 1)
            self.want_count((outer, inner), bottoms[2], "bottom[2]")

    def _counted(self, bottom: Sequence[Blob], outer: int, inner: int) -> Any:
        """Return which pixels count, (outer, inner) bool, None where all do."""
        if len(bottom) < 3:
            return None
        return bottom[2].host().reshape(outer, inner) != self.ignore

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss."""
        outer, _, inner = shape = fold(bottom[0].shape, 1)
        counted = self._counted(bottom, outer, inner)
        valid = float(outer * inner if counted is None else counted.sum())
        divisor = normalizer(self.mode, outer, inner, valid)
        counted = None if counted is None else ctx.backend.asarray(counted)
        total = soft_cross_entropy(bottom[0].array.reshape(shape), bottom[1].array.reshape(shape), counted,
                                   self.temperature)
        top[0].array[...] = total * self.temperature**2 / divisor
        ctx.saved.update(counted=counted, divisor=divisor)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write weight · T (p - q) / divisor, 0 at pixels that are left out."""
        if ctx.propagate[0]:
            shape = fold(bottom[0].shape, 1)
            factor = self.weight(top) * self.temperature / ctx.saved["divisor"]
            soft_cross_entropy_grad(bottom[0].array.reshape(shape), bottom[1].array.reshape(shape),
                                    ctx.saved["counted"], self.temperature, factor, bottom[0].grad.reshape(shape))
