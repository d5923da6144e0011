"""Histogram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.runtime.blob import Blob

__all__ = ["Histogram"]


@register
class Histogram(Layer):
    """Counts the labels of each image: (N, 1, H, W) to (N, num_labels, 1, 1) (v1's ``histogram_layer.cpp``).

    The original adds the counts of all images into the first row and leaves the others 0; here each
    image has its own. With one image a batch both are the same.
    """

    type = "Histogram"
    options = "histogram_param"
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check num_labels."""
        if self.p.num_labels < 1:
            raise LayerError(f"histogram_param.num_labels: expected at least 1, got {self.p.num_labels}")
        self.ignore = {int(label) for label in self.p.ignore_label}

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (N, num_labels, 1, 1)."""
        self.want_rank(bottoms[0], 4)
        self.want_same((bottoms[0][0], 1, *bottoms[0][2:]), bottoms[0], "bottom[0]")
        return [(bottoms[0][0], self.p.num_labels, 1, 1)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the counts."""
        labels = read_labels(bottom[0].host(), self.p.num_labels, self.ignore)
        for image, out in zip(labels, top[0].data):
            out[:, 0, 0] = np.bincount(image[image >= 0], minlength=self.p.num_labels)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
