"""RelativeError."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["RelativeError"]

SMALLEST_POWER = 1e-6


@register
class RelativeError(Layer):
    """Root of the mean square of a - b over the mean square of b, at least 1e-6 (v1's ``relative_error_layer.cpp``)."""

    type = "RelativeError"
    bottoms = (2, 2)
    has_backward = False
    backward_reads = ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the scalar's shape, ()."""
        self.want_same(bottoms[0], bottoms[1], "bottom[1]")
        return [()]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the error; squares are added up in float64."""
        xp, (a, b) = ctx.xp, (blob.array.astype(np.float64) for blob in bottom)
        top[0].array[...] = xp.sqrt(xp.mean((a - b) ** 2) / xp.maximum(xp.mean(b**2), SMALLEST_POWER))

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
