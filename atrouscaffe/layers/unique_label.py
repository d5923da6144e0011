"""UniqueLabel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["UniqueLabel"]


@register
class UniqueLabel(Layer):
    """Lists the labels that each label map has: (N, 1, H, W) to (N, max_labels, 1, 1).

    Ascending, without ignored ones, with forced ones, filled up with -1 (the forks'
    ``unique_label_layer.cpp``). Makes image-level labels out of pixel-level ones.
    """

    type = "UniqueLabel"
    options = "unique_label_param"
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check max_labels."""
        self.most: int = self.p.max_labels
        if self.most < 1:
            raise LayerError(f"unique_label_param.max_labels: expected at least 1, got {self.most}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (N, max_labels, 1, 1)."""
        self.want_rank(bottoms[0], 4)
        self.want_same((bottoms[0][0], 1, *bottoms[0][2:]), bottoms[0], "bottom[0]")
        return [(bottoms[0][0], self.most, 1, 1)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the lists."""
        lists = top[0].data
        lists[...] = -1
        ignored, forced = (np.asarray(values, bottom[0].dtype) for values in (self.p.ignore_label, self.p.force_label))
        for n, image in enumerate(bottom[0].host()):
            found = np.unique(image)
            found = np.union1d(found[~np.isin(found, ignored)], forced)
            if len(found) > self.most:
                raise DataError(f"image {n} has {len(found)} labels ({', '.join(f'{v:g}' for v in found[:30])}), more "
                                f"than unique_label_param.max_labels {self.most}: raise it, or look at the label map")
            lists[n, : len(found), 0, 0] = found

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
