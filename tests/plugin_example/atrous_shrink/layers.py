"""Shrink: soft thresholding, with a learned factor a channel."""

from __future__ import annotations

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Blueprint, Inner, Layer, register


@register
class Shrink(Layer):
    """y = factor_c * sign(x) * max(|x| - threshold, 0); SQUARE takes the square of that without its sign.

    ``shrink_param``: threshold, kind, channels (those that are left alone), factor_filler.
    """

    type = "Shrink"
    options = "shrink_param"
    message = {"threshold": 0.5, "kind": ("SIGNED", "SQUARE"), "channels": [int],
               "factor_filler": Inner("FillerParameter"), "note": str, "strict": False}
    number = 30001
    backward_reads = ("bottom",)

    def setup(self):
        """Check the threshold."""
        if self.p.threshold < 0:
            raise LayerError(f"shrink_param.threshold: expected at least 0, got {self.p.threshold:g}")

    def infer_shapes(self, bottoms):
        """Return the bottom's shape."""
        self.want_rank(bottoms[0], 4)
        return [bottoms[0]]

    def param_shapes(self, bottoms):
        """Return one factor a channel."""
        return [Blueprint((bottoms[0][1],), self.p.factor_filler if self.p.has("factor_filler") else None, "factor", 1)]

    def _shrunk(self, x):
        """Return the shrunk values, and their derivative by x."""
        over = np.maximum(np.abs(x) - self.p.threshold, 0)
        if self.p.kind == "SQUARE":
            values, slopes = over ** 2, 2 * over * np.sign(x)
        else:
            values, slopes = np.sign(x) * over, (over > 0).astype(x.dtype)
        for channel in self.p.channels:
            values[:, channel], slopes[:, channel] = x[:, channel], 1
        return values, slopes

    def forward(self, ctx, bottom, top, params):
        """Shrink, then scale each channel."""
        values, _ = self._shrunk(bottom[0].array)
        top[0].array[...] = params[0].array[:, None, None] * values

    def backward(self, ctx, bottom, top, params):
        """Pass the gradient on, and add the factors' own."""
        values, slopes = self._shrunk(bottom[0].array)
        if ctx.propagate[0]:
            bottom[0].grad[...] = params[0].array[:, None, None] * slopes * top[0].grad
        if ctx.param_propagate[0]:
            params[0].grad[...] += (values * top[0].grad).sum((0, 2, 3))
