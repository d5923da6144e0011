"""PSROIPooling of R-FCN: the means of boxes in a grid, each cell in channels of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.roi_pooling import MOST, ROIPooling
from atrouscaffe.runtime.blob import Blob

__all__ = ["PSROIPooling"]


@register
class PSROIPooling(ROIPooling):
    """Write for each region and output the mean of each cell of a grid, read from that cell's own channel.

    Bottoms: (N, output_dim group_size^2, H, W) and regions as of `ROIPooling`; top (R, output_dim, group_size,
    group_size). ``psroi_pooling_param``: output_dim, group_size, spatial_scale.

    Notes
    -----
    Cell (i, j) of output c reads channel ``(c group_size + i) group_size + j``. Corners are rounded to whole pixels of
    the image, then scaled; cells reach to whole pixels of the map; a cell without pixels is 0. Source:
    ``psroi_pooling_layer.cu`` of R-FCN's Caffe (Dai et al., 2016).
    """

    type = "PSROIPooling"
    options = "psroi_pooling_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the grid."""
        p = self.p
        if not (1 <= p.group_size <= MOST and 1 <= p.output_dim <= 2**20):
            raise LayerError(f"psroi_pooling_param: expected group_size 1 to {MOST} and output_dim of at least 1, got "
                             f"{p.group_size} and {p.output_dim}")
        self.grid = (p.group_size, p.group_size)
        self.check_scale()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """(regions, output_dim, group_size, group_size)."""
        (shape,) = super().infer_shapes(bottoms)
        wanted = self.p.output_dim * self.p.group_size**2
        if shape[1] != wanted:
            raise ShapeError(f"bottom[0]: expected output_dim group_size^2 = {wanted} channels, "
                             f"got shape {tuple(bottoms[0])}")
        return [(shape[0], self.p.output_dim, *self.grid)]

    def cut(self, first: float, last: float, cells: int, size: int) -> list[slice]:
        """Cut pixels `first` to `last` of the image into cells of the map."""
        begin, end = first * self.p.spatial_scale, (last + 1) * self.p.spatial_scale
        step = max(end - begin, 0.1) / cells
        return [slice(min(max(math.floor(i * step + begin), 0), size),
                      min(max(math.ceil((i + 1) * step + begin), 0), size)) for i in range(cells)]

    def corners(self, regions: np.ndarray) -> np.ndarray:
        """Return x1, y1, x2, y2 in whole pixels of the image."""
        return self.whole(regions[:, 1:])

    def _channels(self, i: int, j: int) -> slice:
        """Return the channels of a cell, one for each output."""
        group = self.p.group_size
        return slice(i * group + j, None, group**2)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Take the means."""
        x, y = bottom[0].array, top[0].array
        y[...] = 0

        def work(region: int, i: int, j: int, item: int, rows: slice, columns: slice) -> None:
            y[region, :, i, j] = x[item, self._channels(i, j), rows, columns].mean(axis=(1, 2))

        self.each(bottom, work)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Spread each cell's gradient over its pixels."""
        if not ctx.propagate[0]:
            return
        dx, dy = bottom[0].grad, top[0].grad
        dx[...] = 0

        def work(region: int, i: int, j: int, item: int, rows: slice, columns: slice) -> None:
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            dx[item, self._channels(i, j), rows, columns] += (dy[region, :, i, j] / area)[:, None, None]

        self.each(bottom, work)
