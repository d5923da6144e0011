"""DepthwiseConvolution and ConvolutionDepthwise: a convolution with as many groups as channels."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.convolution import Convolution
from atrouscaffe.layers.windows import conv_spatial

__all__ = ["ConvolutionDepthwise", "DepthwiseConvolution"]


@register
class DepthwiseConvolution(Convolution):
    """Convolve each channel by itself: Convolution with group = channels.

    Options as in `Convolution`; ``group`` may be left out. num_output is the number of channels or a multiple of it.
    The weight is (num_output, 1, \\*kernel). Source: ``depthwise_conv_layer.cpp`` of MobileNet's Caffe forks.
    """

    type = "DepthwiseConvolution"

    def setup(self) -> None:
        """Check num_output; the number of groups follows from the bottom."""
        if not self.p.num_output:
            raise LayerError(f"num_output: expected at least 1, got {self.p.num_output or 'none'}")

    def group(self, shape: Shape) -> int:
        """Return the number of channels."""
        return shape[conv_spatial(self, shape)[0]]

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """All bottoms have one shape; a group that the file gives is the number of channels."""
        channels = self.group(bottoms[0])
        if not channels or (self.p.has("group") and self.p.group != channels):
            raise ShapeError(f"group: expected the number of channels, got {self.p.group} for a bottom of shape "
                             f"{tuple(bottoms[0])}")
        self._check_group(channels)
        return super().infer_shapes(bottoms)


@register
class ConvolutionDepthwise(DepthwiseConvolution):
    """DepthwiseConvolution under the name of other forks.

    Source: ``conv_dw_layer.cpp`` of farmingyard's ShuffleNet and of soeaver's Caffe.
    """

    type = "ConvolutionDepthwise"
