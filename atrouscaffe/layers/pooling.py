"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.layers.windows import pool_windows
from atrouscaffe.ops import pool
from atrouscaffe.ops.packed import packed_pool
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import TRAIN

__all__ = ["Pooling"]

EXACT = 2**24
"""Whole numbers up to here are exact in float32, in which the mask is stored."""


@register
class Pooling(Layer):
    """MAX, AVE or STOCHASTIC over windows.

    ``pooling_param``: pool, kernel_size (or kernel_h, kernel_w), stride, pad, global_pooling,
    round_mode (CEIL; BVLC's FLOOR), ceil_mode (true; the same in other forks' words). A second top of MAX is the mask:
    the index ``h*W + w`` of each window's first maximum.

    Notes
    -----
    Pads are never a maximum, but count in an average. The maximum starts at -FLT_MAX, so NaN never
    wins. The first of several equal values gets the gradient. STOCHASTIC draws from this layer's
    own stream in TRAIN and takes the expectation in TEST; the original has it on the GPU only, and
    no backward in TEST. Source: ``pooling_layer.cpp``, ``pooling_layer.cu``.
    """

    type = "Pooling"
    options = "pooling_param"
    tops = (1, 2)

    def setup(self) -> None:
        """Refuse a mask of anything but MAX; say what backward looks at (maxima are found anew)."""
        self.backward_reads = {"MAX": ("bottom",), "AVE": (), "STOCHASTIC": ("bottom", "top")}[self.p.pool]
        if len(self.spec.tops) > 1 and self.p.pool != "MAX":
            raise ShapeError(f"tops: expected 1 with pool: {self.p.pool}, since only MAX has a mask, got 2")
        self.floor = self.p.round_mode == "FLOOR" or not self.p.ceil_mode
        if self.p.has("round_mode") and self.p.has("ceil_mode") and self.p.ceil_mode == (self.p.round_mode == "FLOOR"):
            raise LayerError(f"ceil_mode: expected what round_mode says ({self.p.round_mode}), got "
                             f"{str(self.p.ceil_mode).lower()}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Rounds up, or down with round_mode FLOOR; the mask has the same shape."""
        self.want_rank(bottoms[0], 4)
        windows = pool_windows(self.p, bottoms[0])
        out = pool.pool_shape(bottoms[0][2:], windows, self.floor)
        if len(self.spec.tops) > 1 and bottoms[0][2] * bottoms[0][3] > EXACT:
            raise ShapeError(f"mask: expected planes of at most {EXACT} pixels, since float32 cannot tell larger "
                             f"indices apart, got {bottoms[0][2]}x{bottoms[0][3]}")
        return [(*bottoms[0][:2], *out)] * max(1, len(self.spec.tops))

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Pool."""
        x, y = bottom[0].array, top[0].array
        windows = pool_windows(self.p, bottom[0].shape)
        if any(ctx.packed):
            packed_pool(x, y, windows, self.p.pool == "AVE")
        elif self.p.pool == "AVE":
            pool.average_pool(x, y, windows)
        elif self.p.pool == "MAX":
            pool.max_pool(x, y, windows)
            if len(top) > 1:
                top[1].array[...] = pool.max_indices(x, y.shape, windows)
        elif ctx.phase == TRAIN:
            chance = ctx.backend.asarray(ctx.rng.random(y.shape, dtype=np.float32).astype(x.dtype))
            ctx.saved["picked"] = pool.stochastic_pick(x, chance, y, windows)
        else:
            pool.stochastic_average(x, y, windows)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Give each window's gradient to the pixels it came from; the mask has none."""
        dy, dx = top[0].grad, bottom[0].grad
        windows = pool_windows(self.p, bottom[0].shape)
        if self.p.pool == "AVE":
            pool.average_backward(dy, dx, windows)
        elif self.p.pool == "MAX":
            pool.max_backward(dy, pool.max_indices(bottom[0].array, dy.shape, windows), dx, windows)
        elif ctx.phase == TRAIN:
            pool.max_backward(dy, ctx.saved["picked"], dx, windows)
        else:
            pool.stochastic_average_backward(bottom[0].array, top[0].array, dy, dx, windows)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Zero, as is usual: comparisons and sums only."""
        return 0

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """The window, or the whole image."""
        if self.p.global_pooling:
            return GLOBAL, GLOBAL
        height, width = (Reach(w.kernel, w.stride, w.pad) for w in pool_windows(self.p, bottoms[0]))
        return height, width
