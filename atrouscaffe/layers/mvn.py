"""MVN: mean and variance normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.channels import affine, blend, channel_moments, channel_sums
from atrouscaffe.runtime.blob import Blob

__all__ = ["MVN"]


@register
class MVN(Layer):
    """Subtract each plane's (or image's) mean and divide by its standard deviation plus eps.

    ``mvn_param``: normalize_variance, across_channels, eps (1e-10 in the first fork, which has no
    such field).

    Notes
    -----
    The gradient takes eps for small, as the original does. The first fork passes the gradient of a
    normalisation without variance through unchanged, and with across_channels reads beyond a
    buffer; both are defects that are not kept: the second fork's gradient is used for both.
    Source: ``mvn_layer.cpp``.
    """

    type = "MVN"
    options = "mvn_param"
    backward_reads = ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom."""
        if len(bottoms[0]) < 2 or 0 in bottoms[0]:
            raise ShapeError(f"bottom[0]: expected (N, C, ...) with at least one value, got shape {bottoms[0]}")
        return [bottoms[0]]

    def _groups(self, array: np.ndarray) -> np.ndarray:
        """View as (1, groups, values): what is normalised together is a row."""
        groups = array.shape[0] * (1 if self.p.across_channels else array.shape[1])
        return array.reshape(1, groups, -1)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Normalise; the divisors are kept for backward, and the result where it needs it."""
        x, y = self._groups(bottom[0].array), self._groups(top[0].array)
        mean, variance = channel_moments(x)
        if not self.p.normalize_variance:
            affine(x, None, -mean, y)
            return
        eps = 1e-10 if self.env.dialect == "v1" else self.p.eps
        inverse = 1 / (ctx.xp.sqrt(variance) + x.dtype.type(eps))
        # The mean goes first, as it may be large against the deviation.
        affine(x, None, -mean, y)
        affine(y, inverse, None, y)
        if ctx.keeps:
            ctx.saved["inverse"], ctx.saved["normed"] = inverse, y.copy()

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """``(dy - mean(dy) - y mean(dy y)) / divisor``."""
        dy, dx = self._groups(top[0].grad), self._groups(bottom[0].grad)
        count = dy.shape[2]
        mean = (channel_sums(dy) / count).astype(dy.dtype)
        if not self.p.normalize_variance:
            affine(dy, None, -mean, dx)
            return
        inverse, normed = ctx.saved["inverse"], ctx.saved["normed"]
        slope = (channel_sums(dy, normed) / count).astype(dy.dtype)
        blend(normed, -slope * inverse, dy, inverse, -mean * inverse, dx)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Every pixel counts in the mean."""
        return GLOBAL, GLOBAL
