"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, register
from atrouscaffe.layers.pointwise import Pointwise
from atrouscaffe.ops.elementwise import BLOCK, spread
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.runtime.threads import chunks, parallel
from atrouscaffe.spec import TRAIN

__all__ = ["Dropout"]


def draw_mask(rng: np.random.Generator, size: int, ratio: float) -> np.ndarray:
    """Return `size` booleans, each False with probability `ratio`.

    One number of `rng` seeds a stream for each piece, so pieces can be drawn side by side and the
    mask does not depend on the number of threads.
    """
    seed = int(rng.integers(0, 2**63))
    mask = np.empty(size, bool)
    pieces = chunks(size, BLOCK)

    def work(i: int) -> None:
        start, stop = pieces[i]
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, i))))
        np.greater_equal(stream.random(stop - start, dtype=np.float32), ratio, out=mask[start:stop])

    parallel(work, len(pieces))
    return mask


@register
class Dropout(Pointwise):
    """Sets values to 0 with probability dropout_ratio and scales the others by 1 / (1 - dropout_ratio).

    Only in phase TRAIN; in TEST the identity (``dropout_layer.cpp``; Srivastava et al., 2014).
    """

    type = "Dropout"
    options = "dropout_param"
    backward_reads = ()

    def setup(self) -> None:
        """Check the ratio."""
        self.ratio: float = self.p.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise LayerError(f"dropout_param.dropout_ratio: expected at least 0 and below 1, got {self.ratio:g}")
        self.scale = 1 / (1 - self.ratio)

    def _masked(self, xp: Any, mask: Any, x: Any, y: Any) -> None:
        xp.multiply(x, mask, out=y)
        y *= self.scale

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Draw a mask and apply it, or copy."""
        x, y = bottom[0].array, top[0].array
        if ctx.phase == TRAIN:
            mask = ctx.backend.asarray(draw_mask(ctx.rng, x.size, self.ratio))
            spread(ctx.xp, self._masked, mask, x, y)
            if ctx.keeps:
                ctx.saved["mask"] = mask
        elif bottom[0] is not top[0]:
            spread(ctx.xp, lambda xp, x, y: xp.copyto(y, x), x, y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Apply the mask of the forward pass to the gradient, or copy."""
        if not ctx.propagate[0]:
            return
        dy, dx = top[0].grad, bottom[0].grad
        if ctx.phase == TRAIN:
            spread(ctx.xp, self._masked, ctx.saved["mask"], dy, dx)
        elif bottom[0] is not top[0]:
            spread(ctx.xp, lambda xp, dy, dx: xp.copyto(dx, dy), dy, dx)
