"""Accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.argmax import label_ranks
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.runtime.blob import Blob

__all__ = ["Accuracy"]


@register
class Accuracy(Layer):
    """Share of labels among the top_k scores (``accuracy_layer.cpp``); 0 where nothing counts.

    A class of equal score comes before the label if its index is larger (v1, v2), or always (BVLC's
    newest). v1 takes all of an item as its classes. A second top has the accuracy of each class: (C,) with 0 for
    absent ones (v2, BVLC, ENet), (C, 1, 1, 1) with 1 for absent ones in SegNet's nets.
    """

    type = "Accuracy"
    options = "accuracy_param"
    bottoms = (2, 2)
    tops = (1, 2)
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Read the options."""
        self.ignore = {int(self.p.ignore_label)} if self.p.has("ignore_label") else set()
        self.whole_items = self.env.dialect == "v1" and not self.p.has("axis")

    def _split(self, shape: Shape) -> tuple[int, int, int]:
        if self.whole_items:
            outer, channels, inner = fold(shape, 1)
            return outer, channels * inner, 1
        return fold(shape, self.axis(self.p.axis, len(shape), "accuracy_param.axis"))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return a scalar, and one number a class for a second top."""
        if len(bottoms[0]) < 2:
            raise ShapeError(f"bottom[0]: expected scores with at least 2 axes, got shape {tuple(bottoms[0])}")
        outer, channels, inner = self._split(bottoms[0])
        if not 1 <= self.p.top_k <= channels:
            raise LayerError(f"accuracy_param.top_k: expected 1 to {channels}, the number of classes, "
                             f"got {self.p.top_k}")
        if np.prod(bottoms[1]) != outer * inner:
            raise ShapeError(f"bottom[1]: expected one label for each of {outer * inner} predictions, "
                             f"got shape {tuple(bottoms[1])}")
        return [(), (channels, 1, 1, 1) if self.env.segnet else (channels,)][: len(self.spec.tops)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Count the classes that come before each label."""
        outer, channels, inner = shape = self._split(bottom[0].shape)
        labels = read_labels(bottom[1].host(), channels, self.ignore).reshape(outer, inner)
        before = label_ranks(bottom[0].array.reshape(shape), ctx.backend.asarray(labels), self.env.dialect == "bvlc")
        counted = labels >= 0
        right = (ctx.backend.to_numpy(before) < self.p.top_k) & counted
        total = int(counted.sum())
        top[0].array[...] = float(right.sum() / total) if total else 0
        if len(top) > 1:
            seen = np.bincount(labels[counted], minlength=channels)
            hit = np.bincount(labels[right], minlength=channels)
            share = np.where(seen > 0, hit / np.maximum(seen, 1), 1 if self.env.segnet else 0)
            top[1].array[...] = ctx.backend.asarray(share.reshape(top[1].shape))

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
