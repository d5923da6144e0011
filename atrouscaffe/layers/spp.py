"""SPP: spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.geometry import Window
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.ops import pool
from atrouscaffe.runtime.blob import Blob

__all__ = ["SPP"]

HIGHEST = 12


@register
class SPP(Layer):
    """Pool into 1, 4, 16, … bins and lay the results side by side (He et al. 2014).

    ``spp_param``: pyramid_height, pool (MAX or AVE). Level l has 2**l bins along each axis; the
    kernel is the image over the bins, rounded up, also the stride; what that is too much is padded,
    more of it before. Output (N, C * bins of all levels); with one level (N, C, 1, 1), as there.
    Source: ``spp_layer.cpp``.
    """

    type = "SPP"
    options = "spp_param"

    def setup(self) -> None:
        """Check the pyramid."""
        if not 1 <= (self.p.pyramid_height or 0) <= HIGHEST:
            raise LayerError(f"pyramid_height: expected 1 to {HIGHEST}, got {self.p.pyramid_height or 'none'}")
        if self.p.pool not in ("MAX", "AVE"):
            raise LayerError(f"pool: expected MAX or AVE, got {self.p.pool}; stochastic pooling has no padding, which "
                             "a pyramid needs")
        self.backward_reads = ("bottom",) if self.p.pool == "MAX" else ()

    def _levels(self, shape: Shape) -> list[tuple[tuple[Window, Window], tuple[int, ...]]]:
        """Return (windows, output size) of each level."""
        levels = []
        for level in range(self.p.pyramid_height):
            bins, windows = 2**level, []
            for n in shape[2:]:
                kernel = -(-n // bins)
                windows.append(Window(kernel, kernel, (kernel * bins - n + 1) // 2))
            levels.append(((windows[0], windows[1]), pool.pool_shape(shape[2:], windows)))
        return levels

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (N, C * bins)."""
        self.want_rank(bottoms[0], 4)
        if 0 in bottoms[0]:
            raise LayerError(f"bottom[0]: expected at least one value, got shape {bottoms[0]}")
        levels = self._levels(bottoms[0])
        if len(levels) == 1:
            return [(*bottoms[0][:2], *levels[0][1])]
        return [(bottoms[0][0], bottoms[0][1] * sum(out[0] * out[1] for _, out in levels))]

    def _parts(self, array: np.ndarray, shape: Shape) -> list[tuple[Sequence[Window], Shape, np.ndarray]]:
        """Return (windows, (N, C, h, w), columns of the top) of each level."""
        flat, begin, parts = array.reshape(shape[0], -1), 0, []
        for windows, out in self._levels(shape):
            size = shape[1] * out[0] * out[1]
            parts.append((windows, (*shape[:2], *out), flat[:, begin : begin + size]))
            begin += size
        return parts

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Pool each level."""
        x = bottom[0].array
        for windows, shape, columns in self._parts(top[0].array, x.shape):
            level = ctx.xp.empty(shape, x.dtype)
            (pool.max_pool if self.p.pool == "MAX" else pool.average_pool)(x, level, windows)
            columns[...] = level.reshape(shape[0], -1)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Sum over the levels."""
        dx = bottom[0].grad
        dx[...] = 0
        part = ctx.xp.empty_like(dx)
        for windows, shape, columns in self._parts(top[0].grad, dx.shape):
            dy = ctx.xp.ascontiguousarray(columns).reshape(shape)
            if self.p.pool == "MAX":
                pool.max_backward(dy, pool.max_indices(bottom[0].array, shape, windows), part, windows)
            else:
                pool.average_backward(dy, part, windows)
            dx += part

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """The first level sees the whole image."""
        return GLOBAL, GLOBAL
