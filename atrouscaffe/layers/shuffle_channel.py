"""ShuffleChannel of ShuffleNet: channels of all groups in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["ShuffleChannel"]


@register
class ShuffleChannel(Layer):
    """Write channels (group, C/group) in the order (C/group, group).

    ``shuffle_channel_param``: group. Source: ``shuffle_channel_layer.cpp`` of ShuffleNet's Caffe (Zhang et al., 2017).
    """

    type = "ShuffleChannel"
    options = "shuffle_channel_param"
    backward_reads = ()

    def setup(self) -> None:
        """Check the number of groups."""
        if self.p.group < 1:
            raise LayerError(f"shuffle_channel_param.group: expected at least 1, got {self.p.group}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom."""
        if len(bottoms[0]) < 2 or bottoms[0][1] % self.p.group:
            raise ShapeError(f"bottom[0]: expected a multiple of group ({self.p.group}) channels, "
                             f"got shape {tuple(bottoms[0])}")
        return [bottoms[0]]

    @staticmethod
    def _exchange(source: Any, target: Any, rows: int) -> None:
        """Write (rows, columns) of channels as (columns, rows)."""
        items, channels = source.shape[:2]
        columns, pixels = channels // max(1, rows), math.prod(source.shape[2:])
        target.reshape(items, columns, rows, pixels)[...] = source.reshape(items, rows, columns, pixels).swapaxes(1, 2)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        self._exchange(bottom[0].array, top[0].array, self.p.group)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back."""
        self._exchange(top[0].grad, bottom[0].grad, bottom[0].shape[1] // self.p.group)
