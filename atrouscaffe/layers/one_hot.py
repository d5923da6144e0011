"""OneHot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.runtime.blob import Blob

__all__ = ["OneHot"]


@register
class OneHot(Layer):
    """Marks the labels that each pixel lists: (N, M, H, W) to (N, num_labels, H, W) of 0 and 1.

    v1's ``onehot_layer.cpp``. A label of -1 is a filler, as UniqueLabel writes it; the original
    writes out of bounds there. It also wants at least num_labels channels, for no reason; here any
    number goes.
    """

    type = "OneHot"
    options = "onehot_param"
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check num_labels."""
        if self.p.num_labels < 1:
            raise LayerError(f"onehot_param.num_labels: expected at least 1, got {self.p.num_labels}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape with num_labels channels."""
        self.want_rank(bottoms[0], 4)
        n, _, h, w = bottoms[0]
        return [(n, self.p.num_labels, h, w)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the marks."""
        labels, marks = read_labels(bottom[0].host(), self.p.num_labels, {-1}), top[0].data
        marks[...] = 0
        n, m, h, w = np.nonzero(labels >= 0)
        marks[n, labels[n, m, h, w], h, w] = 1
