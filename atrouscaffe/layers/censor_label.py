"""CensorLabel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["CensorLabel"]


@register
class CensorLabel(Layer):
    """Turns labels that are not in the image's list into ignore_label (v1's ``censor_label_layer.cpp``).

    Bottoms: label map (N, 1, H, W) and lists (N, max_labels, 1, 1) with -1 as filler.
    """

    type = "CensorLabel"
    options = "censor_label_param"
    bottoms = (2, 2)
    in_place = True
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Want an ignore_label."""
        if not self.p.has("ignore_label"):
            raise LayerError("censor_label_param: expected an ignore_label")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the label map's shape."""
        self.want_rank(bottoms[0], 4)
        self.want_same((bottoms[0][0], 1, *bottoms[0][2:]), bottoms[0], "bottom[0]")
        self.want_same((bottoms[0][0], *bottoms[1][1:2], 1, 1), bottoms[1], "bottom[1]")
        return [bottoms[0]]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the censored map."""
        for image, listed, out in zip(bottom[0].host(), bottom[1].host(), top[0].data):
            out[...] = np.where(np.isin(image, listed[listed != -1]), image, self.p.ignore_label)
