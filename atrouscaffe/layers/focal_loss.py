"""FocalLoss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss, normalization, normalizer
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.ops.softmax import softmax
from atrouscaffe.runtime.blob import Blob

__all__ = ["FocalLoss"]

LEAST = 1.17549435e-38
"""The smallest probability whose logarithm is taken: the smallest float32 above 0."""


@register
class FocalLoss(Loss):
    """-alpha (1 - p)^gamma log p, p being the softmax at the label, in the mean over the pixels that count.

    ``focal_loss_param``: alpha (0.25), gamma (2); ``loss_param``: ignore_label, normalization; ``softmax_param``: axis.

    Notes
    -----
    A second top receives the softmax; gradients do not come back through it. ``type: LINEAR`` is refused. Source:
    ``focal_loss_layer.cpp`` of the forks that made it of SoftmaxWithLoss (Lin et al., 2017).
    """

    type = "FocalLoss"
    options = "focal_loss_param"
    tops = (1, 2)

    def setup(self) -> None:
        """Read the options."""
        p, loss = self.p, self.spec.fields.loss_param
        if p.type != "ORIGIN":
            raise LayerError(f"focal_loss_param.type: expected ORIGIN, got {p.type}")
        if not (0 <= p.gamma < float("inf") and np.isfinite(p.alpha)):
            raise LayerError(f"focal_loss_param: expected gamma of at least 0 and a finite alpha, got {p.gamma:g} and "
                             f"{p.alpha:g}")
        self.ignore = {int(loss.ignore_label)} if loss.has("ignore_label") else set()
        self.mode = normalization(loss, "VALID")

    def _fold(self, shape: Shape) -> tuple[int, int, int]:
        return fold(shape, self.axis(self.spec.fields.softmax_param.axis, len(shape), "softmax_param.axis"))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return a scalar, and the scores' shape for a second top."""
        outer, _, inner = self._fold(bottoms[0])
        if len(bottoms[1]) == 0 or np.prod(bottoms[1]) != outer * inner:
            raise ShapeError(f"bottom[1]: expected one label for each of {outer * inner} pixels of bottom[0] "
                             f"{tuple(bottoms[0])}, got shape {tuple(bottoms[1])}")
        return [(), tuple(bottoms[0])][: max(1, len(self.spec.tops))]

    def _at_labels(self, ctx: Context, x: Any, labels: Any) -> tuple[Any, Any]:
        """Return the softmax, and its value at the label of each pixel, (outer, 1, inner)."""
        share = ctx.xp.empty_like(x)
        softmax(x, share)
        at = ctx.xp.take_along_axis(share, ctx.xp.maximum(labels, 0)[:, None, :], axis=1)
        return share, ctx.xp.maximum(at, x.dtype.type(LEAST))

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss, and the softmax where a second top wants it."""
        outer, channels, inner = shape = self._fold(bottom[0].shape)
        found = read_labels(bottom[1].host(), channels, self.ignore).reshape(outer, inner).astype(np.int64)
        divisor = normalizer(self.mode, outer, inner, float(np.count_nonzero(found >= 0)))
        labels = ctx.backend.asarray(found)
        share, at = self._at_labels(ctx, bottom[0].array.reshape(shape), labels)
        each = (1 - at) ** self.p.gamma * ctx.xp.log(at) * (labels >= 0)[:, None]
        top[0].array[...] = each.sum(dtype=np.float64) * (-self.p.alpha / divisor)
        if len(top) > 1:
            top[1].array[...] = share.reshape(top[1].shape)
        ctx.saved.update(labels=labels, divisor=divisor)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx_j = alpha (gamma (1 - p)^(gamma - 1) p log p - (1 - p)^gamma) ([j is the label] - p_j) / divisor."""
        if not ctx.propagate[0]:
            return
        xp, labels = ctx.xp, ctx.saved["labels"]
        shape = self._fold(bottom[0].shape)
        share, at = self._at_labels(ctx, bottom[0].array.reshape(shape), labels)
        rest = xp.maximum(1 - at, at.dtype.type(LEAST))
        slope = rest**self.p.gamma * (self.p.gamma * at * xp.log(at) / rest - 1) * (labels >= 0)[:, None]
        here = labels[:, None] == xp.arange(shape[1])[None, :, None]
        factor = self.p.alpha * self.weight(top) / ctx.saved["divisor"]
        bottom[0].grad.reshape(shape)[...] = slope * (here - share) * factor
