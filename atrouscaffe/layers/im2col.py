"""Im2col: the columns of a convolution as a blob."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.geometry import Window
from atrouscaffe.layers.base import Context, Layer, Reach, Shape, register
from atrouscaffe.layers.windows import conv_images, conv_reach, conv_spatial, conv_windows
from atrouscaffe.ops.im2col import col2im, im2col, taps_of
from atrouscaffe.runtime.blob import Blob

__all__ = ["Im2col"]


@register
class Im2col(Layer):
    """Write all pixels under each window position along the channels.

    ``convolution_param``: kernel, stride, pad, hole, axis; the rest is not read.
    Source: ``im2col_layer.cpp``.
    """

    type = "Im2col"
    options = "convolution_param"
    backward_reads = ()

    def _split(self, shape: Shape) -> tuple[int, tuple[int, ...], tuple[Window, ...]]:
        axis, spatial = conv_spatial(self, shape)
        return axis, spatial, conv_windows(self.p, len(spatial))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (…, channels * taps, \\*out)."""
        axis, spatial, windows = self._split(bottoms[0])
        out = tuple(w.conv_size(n) for w, n in zip(windows, spatial))
        return [(*bottoms[0][:axis], bottoms[0][axis] * taps_of(windows), *out)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy pixels into columns."""
        im2col(conv_images(self, bottom[0].array), conv_images(self, top[0].array), self._split(bottom[0].shape)[2])

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Sum columns into pixels."""
        col2im(conv_images(self, top[0].grad), conv_images(self, bottom[0].grad), self._split(bottom[0].shape)[2])

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """The window with its holes."""
        return conv_reach(self._split(bottoms[0])[2])
