"""Reorg of YOLO v2: squares of pixels to channels and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Reorg"]

MOST = 2**12
"""No stride is larger."""


@register
class Reorg(Layer):
    """Write squares of stride x stride pixels as channels: (N, C, H, W) becomes (N, stride^2 C, H/stride, W/stride).

    ``reorg_param``: stride (2), reverse (channels become squares).

    Notes
    -----
    The order of the values is Darknet's, which takes the bottom for (N, C/stride^2, stride H, stride W) and fills the
    top as if it were (N, C, H, W): neighbours in the top are none in the image, and nets are trained by it. With
    ``reverse`` the shapes are the true ones. Source: ``reorg_layer.cpp`` of YOLO's Caffe forks.
    """

    type = "Reorg"
    options = "reorg_param"
    backward_reads = ()

    def setup(self) -> None:
        """Check the stride."""
        if not 1 <= self.p.stride <= MOST:
            raise LayerError(f"reorg_param.stride: expected 1 to {MOST}, got {self.p.stride}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Stride^2 times the channels, or 1 / stride^2."""
        self.want_rank(bottoms[0], 4)
        stride, (items, channels, height, width) = self.p.stride, bottoms[0]
        if channels % stride**2 or (not self.p.reverse and (height % stride or width % stride)):
            raise ShapeError(f"bottom[0]: expected channels that are a multiple of {stride**2}, and sides of {stride}, "
                             f"got shape {tuple(bottoms[0])}")
        if self.p.reverse:
            return [(items, channels // stride**2, height * stride, width * stride)]
        return [(items, channels * stride**2, height // stride, width // stride)]

    def _views(self, shape: Shape, squares: Any, channels: Any) -> tuple[Any, Any]:
        """View an array of squares and one of channels alike: (items, row, column, channel, height, width)."""
        stride, (items, depth, height, width) = self.p.stride, shape
        thin = depth // stride**2
        return (squares.reshape(items, thin, height, stride, width, stride).transpose(0, 3, 5, 1, 2, 4),
                channels.reshape(items, stride, stride, thin, height, width))

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        x, y = bottom[0].array, top[0].array
        squares, channels = self._views(bottom[0].shape, *((y, x) if self.p.reverse else (x, y)))
        target, source = (squares, channels) if self.p.reverse else (channels, squares)
        target[...] = source

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back."""
        dx, dy = bottom[0].grad, top[0].grad
        squares, channels = self._views(bottom[0].shape, *((dy, dx) if self.p.reverse else (dx, dy)))
        target, source = (channels, squares) if self.p.reverse else (squares, channels)
        target[...] = source

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input, by Darknet's order."""
        return GLOBAL, GLOBAL
