"""ROIPooling of Fast R-CNN: the maxima of boxes in a grid of fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["ROIPooling"]

MOST = 2**8
"""No grid is finer."""


@register
class ROIPooling(Layer):
    """Cut each region of bottom 1 out of bottom 0 and write the maximum of each cell of a grid over it.

    Bottom 1 (R, 5): item, x1, y1, x2, y2 in pixels of the image; top (R, C, pooled_h, pooled_w).
    ``roi_pooling_param``: pooled_h, pooled_w, spatial_scale (pixels of bottom 0 a pixel of the image).

    Notes
    -----
    Corners are rounded to whole pixels (halves away from 0) and belong to the region; cells overlap where sizes do not
    divide; a cell without pixels is 0. The gradient goes to the first of equal maxima. Source:
    ``roi_pooling_layer.cpp`` of Fast R-CNN's Caffe (Girshick, 2015).
    """

    type = "ROIPooling"
    options = "roi_pooling_param"
    bottoms = (2, 2)
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the grid."""
        p = self.p
        if not (1 <= p.pooled_h <= MOST and 1 <= p.pooled_w <= MOST):
            raise LayerError(f"pooled_h, pooled_w: expected 1 to {MOST}, got {p.pooled_h} and {p.pooled_w}")
        self.grid = (p.pooled_h, p.pooled_w)
        self.check_scale()

    def check_scale(self) -> None:
        """Raise LayerError unless spatial_scale is a scale."""
        if not 0 < self.p.spatial_scale < float("inf"):
            raise LayerError(f"spatial_scale: expected a finite number above 0, got {self.p.spatial_scale:g}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """(regions, channels, pooled_h, pooled_w)."""
        self.want_rank(bottoms[0], 4)
        if not bottoms[1] or int(np.prod(bottoms[1][1:])) != 5:
            raise ShapeError(f"bottom[1]: expected 5 numbers a region, got shape {tuple(bottoms[1])}")
        return [(bottoms[1][0], bottoms[0][1], *self.grid)]

    def allows_gradient(self, bottom: int) -> bool:
        """Not the regions."""
        return bottom == 0

    @staticmethod
    def whole(values: np.ndarray) -> np.ndarray:
        """Round halves away from 0; DataError where a value is beyond every image."""
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 2**31:
            raise DataError("bottom[1]: expected corners within 2^31 pixels, got one that is not")
        return np.trunc(values + np.copysign(0.5, values)).astype(np.int64)

    def corners(self, regions: np.ndarray) -> np.ndarray:
        """Return x1, y1, x2, y2 of regions (R, 5), in whole pixels of the map."""
        return self.whole(regions[:, 1:] * self.p.spatial_scale)

    def cut(self, first: float, last: float, cells: int, size: int) -> list[slice]:
        """Cut pixels `first` to `last` into cells, each cut to the map's size."""
        extent = max(int(last - first) + 1, 1)
        return [slice(min(max(first + i * extent // cells, 0), size),
                      min(max(first - (-(i + 1) * extent // cells), 0), size)) for i in range(cells)]

    def each(self, bottom: Sequence[Blob], work: Any) -> None:
        """Call ``work(region, row, column, item, rows, columns)`` for each cell that has pixels."""
        regions, shape = bottom[1].host().reshape(-1, 5), bottom[0].shape
        items = regions[:, 0].astype(np.int64)
        if ((items < 0) | (items >= shape[0])).any():
            raise DataError(f"bottom[1]: expected items 0 to {shape[0] - 1}, got {items.min()} to {items.max()}")
        for region, (item, (x1, y1, x2, y2)) in enumerate(zip(items, self.corners(regions))):
            rows, columns = self.cut(y1, y2, self.grid[0], shape[2]), self.cut(x1, x2, self.grid[1], shape[3])
            for i, high in enumerate(rows):
                for j, wide in enumerate(columns):
                    if high.start < high.stop and wide.start < wide.stop:
                        work(region, i, j, int(item), high, wide)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Take the maxima."""
        x, y = bottom[0].array, top[0].array
        y[...] = 0

        def work(region: int, i: int, j: int, item: int, rows: slice, columns: slice) -> None:
            y[region, :, i, j] = x[item, :, rows, columns].max(axis=(1, 2))

        self.each(bottom, work)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add each cell's gradient to its first maximum."""
        if not ctx.propagate[0]:
            return
        xp, x, dx, dy = ctx.xp, bottom[0].array, bottom[0].grad, top[0].grad
        dx[...] = 0
        channels = xp.arange(x.shape[1])

        def work(region: int, i: int, j: int, item: int, rows: slice, columns: slice) -> None:
            part = x[item, :, rows, columns]
            width = part.shape[2]
            place = part.reshape(len(channels), -1).argmax(axis=1)
            dx[item, channels, rows.start + place // width, columns.start + place % width] += dy[region, :, i, j]

        self.each(bottom, work)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
