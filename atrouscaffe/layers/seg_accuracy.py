"""SegAccuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.argmax import argmax
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.runtime.blob import Blob

__all__ = ["SegAccuracy"]


@register
class SegAccuracy(Layer):
    """Pixel accuracy, mean recall and mean IoU of a label map: top (1, 1, 1, 3).

    ``seg_accuracy_layer.cpp`` and ``confusion_matrix.cpp`` of the forks. The mean recall is over the
    classes that the labels have; the mean IoU is over all classes, and one that neither labels nor
    predictions have counts as 1, so small batches score too high: `atrouscaffe evaluate` computes
    VOC's measure. Equal scores go to the larger class. v2 adds up over forward passes with
    ``reset: false``; v1 always starts anew. Without any counted pixel the three are 0, 0 and 1.
    """

    type = "SegAccuracy"
    options = "seg_accuracy_param"
    bottoms = (2, 2)
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Read the options."""
        self.ignore = {int(label) for label in self.p.ignore_label}
        self.reset = self.p.reset or self.env.dialect == "v1"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (1, 1, 1, 3)."""
        self.want_rank(bottoms[0], 4)
        n, _, h, w = bottoms[0]
        self.want_same((n, 1, h, w), bottoms[1], "bottom[1]")
        return [(1, 1, 1, 3)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add this batch to the confusion matrix and write the three measures."""
        n, classes, h, w = bottom[0].shape
        labels = read_labels(bottom[1].host(), classes, self.ignore).reshape(n, h * w)
        found = ctx.backend.to_numpy(argmax(bottom[0].array.reshape(n, classes, h * w)))
        counted = labels >= 0
        pairs = labels[counted].astype(np.int64) * classes + found[counted]
        matrix = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        if not self.reset:
            before = ctx.state.get("confusion")
            if before is not None:
                if len(before) != classes:
                    raise LayerError(f"counts from before are for {len(before)} classes, bottom[0] has {classes}; "
                                     "with reset: false the number of classes must stay")
                matrix = matrix + np.asarray(before)
            ctx.state["confusion"] = matrix.tolist()
        top[0].array[...] = ctx.backend.asarray(np.reshape(measures(matrix), (1, 1, 1, 3)))

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL


def measures(matrix: np.ndarray) -> tuple[float, float, float]:
    """Return pixel accuracy, mean recall and mean IoU of a confusion matrix (labels by row)."""
    right, given, taken = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    total, present = matrix.sum(), given > 0
    accuracy = right.sum() / total if total else 0.0
    recall = float(np.mean(right[present] / given[present])) if present.any() else 0.0
    union = given + taken - right
    iou = np.where(union > 0, right / np.maximum(union, 1), 1.0)
    return float(accuracy), recall, float(iou.mean())
