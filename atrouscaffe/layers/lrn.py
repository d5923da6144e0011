"""LRN: local response normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.geometry import Window
from atrouscaffe.layers.base import Context, Layer, Reach, Shape, register
from atrouscaffe.ops.lrn import lrn_across, lrn_across_backward
from atrouscaffe.ops.pool import average_pool
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.blob import Blob

__all__ = ["LRN"]


@register
class LRN(Layer):
    """Divide by a power of the local energy.

    ``lrn_param``: local_size (odd), alpha, beta, k, norm_region.

    Notes
    -----
    ACROSS_CHANNELS: ``s = k + alpha/n * sum of squares over n channels``; WITHIN_CHANNEL: ``s = 1 +
    alpha * mean of squares over n x n pixels`` (pads count as zeros; k is not used, as in the
    original); ``y = x s**-beta``. Source: ``lrn_layer.cpp``.
    """

    type = "LRN"
    options = "lrn_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the window."""
        if self.p.local_size % 2 != 1:
            raise LayerError(f"local_size: expected an odd number, got {self.p.local_size}")
        self.within = self.p.norm_region == "WITHIN_CHANNEL"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom."""
        self.want_rank(bottoms[0], 4)
        if 0 in bottoms[0]:
            raise ShapeError(f"bottom[0]: expected at least one value, got shape {bottoms[0]}")
        return [bottoms[0]]

    def _mean(self, values: Any) -> Any:
        """Average over local_size x local_size pixels; its own adjoint."""
        window = Window(self.p.local_size, 1, self.p.local_size // 2)
        out = module_of(values).empty_like(values)
        average_pool(values, out, (window, window))
        return out

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Normalise."""
        p, x, y = self.p, bottom[0].array, top[0].array
        if self.within:
            scale = self._mean(x * x)
            scale *= p.alpha
            scale += 1
            ctx.xp.multiply(x, ctx.xp.power(scale, -p.beta, out=scale), out=y)
        else:
            planes = (*x.shape[:2], x.shape[2] * x.shape[3])
            lrn_across(x.reshape(planes), y.reshape(planes), p.local_size, p.alpha, p.beta, p.k)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """The scale is computed anew, so nothing is kept from forward."""
        p, x, dy, dx = self.p, bottom[0].array, top[0].grad, bottom[0].grad
        if self.within:
            scale = self._mean(x * x)
            scale *= p.alpha
            scale += 1
            power = ctx.xp.power(scale, -p.beta)
            spread = self._mean(dy * x * power / scale)
            spread *= x
            spread *= -2 * p.alpha * p.beta
            ctx.xp.multiply(dy, power, out=dx)
            dx += spread
        else:
            planes = (*x.shape[:2], x.shape[2] * x.shape[3])
            lrn_across_backward(x.reshape(planes), dy.reshape(planes), dx.reshape(planes), p.local_size, p.alpha,
                                p.beta, p.k)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One for each value and place of the window."""
        return math.prod(bottoms[0]) * self.p.local_size ** (2 if self.within else 1)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel, or the window."""
        side = Reach(self.p.local_size, 1, self.p.local_size // 2) if self.within else Reach()
        return side, side
