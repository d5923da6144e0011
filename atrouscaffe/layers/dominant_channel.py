"""DominantChannel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["DominantChannel"]


@register
class DominantChannel(Layer):
    """The channels that win most pixels: (N, C, H, W) to (N, top_k, 1, 1).

    Ordered by how often a channel is first at a pixel, then by how often second, up to top_k (v1's
    ``dominant_channel_layer.cpp``). Ties, which the original leaves to its sorting, go to the smaller
    channel here.
    """

    type = "DominantChannel"
    options = "dominant_channel_param"
    has_backward = False
    backward_reads = ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (N, top_k, 1, 1)."""
        self.want_rank(bottoms[0], 4)
        if not 1 <= self.p.top_k < bottoms[0][1]:
            raise LayerError(f"dominant_channel_param.top_k: expected 1 to {bottoms[0][1] - 1}, fewer than the "
                             f"channels of bottom[0], got {self.p.top_k}")
        return [(bottoms[0][0], self.p.top_k, 1, 1)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Count ranks and sort the channels by them."""
        k, channels = self.p.top_k, bottom[0].shape[1]
        for image, out in zip(bottom[0].host(), top[0].data):
            ranked = np.argsort(-image.reshape(channels, -1), axis=0, kind="stable")[:k]
            counts = [np.bincount(row, minlength=channels) for row in ranked]
            out[:, 0, 0] = np.lexsort([-count for count in reversed(counts)])[:k]  # the last key counts first

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
