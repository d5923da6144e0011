"""Padding of the first fork: zeros around each plane, or a crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Padding"]

MOST = 2**16


@register
class Padding(Layer):
    """Add (positive) or cut off (negative) pixels at the beginning and end of both axes.

    ``padding_param``: pad_beg, pad_end; both of one sign. Source: ``padding_layer.cpp`` of DeepLab v1.
    """

    type = "Padding"
    options = "padding_param"
    backward_reads = ()

    def setup(self) -> None:
        """Check the signs."""
        begin, end = self.p.pad_beg, self.p.pad_end
        if begin * end < 0 or max(abs(begin), abs(end)) > MOST:
            raise LayerError(f"pad_beg, pad_end: expected two numbers of one sign, at most {MOST} in size, got {begin} "
                             f"and {end}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Both axes grow by the same."""
        self.want_rank(bottoms[0], 4)
        height, width = (n + self.p.pad_beg + self.p.pad_end for n in bottoms[0][2:])
        if height < 1 or width < 1:
            raise ShapeError(f"bottom[0]: expected more than {-self.p.pad_beg - self.p.pad_end} pixels along both "
                             f"axes, since as many are cut off, got shape {bottoms[0]}")
        return [(*bottoms[0][:2], height, width)]

    def _windows(self, small: np.ndarray, large: np.ndarray) -> np.ndarray:
        """Return the part of the larger array that the smaller one covers."""
        begin = abs(self.p.pad_beg)
        return large[:, :, begin : begin + small.shape[2], begin : begin + small.shape[3]]

    def _copy(self, source: np.ndarray, target: np.ndarray, grows: bool) -> None:
        if grows:
            target[...] = 0
            self._windows(source, target)[...] = source
        else:
            target[...] = self._windows(target, source)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        self._copy(bottom[0].array, top[0].array, self.p.pad_beg + self.p.pad_end > 0)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back; pixels that were cut off get zero."""
        self._copy(top[0].grad, bottom[0].grad, self.p.pad_beg + self.p.pad_end < 0)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel, shifted."""
        return Reach(pad=self.p.pad_beg), Reach(pad=self.p.pad_beg)
