"""NdConvolution of the forks for video: Convolution over any number of axes."""

from __future__ import annotations

from atrouscaffe.layers.base import register
from atrouscaffe.layers.convolution import Convolution

__all__ = ["NdConvolution"]


@register
class NdConvolution(Convolution):
    """Convolution whose window is named by shapes: ``kernel_shape { dim: 3 dim: 3 dim: 3 }``.

    ``convolution_param``: num_output, kernel_shape, stride_shape, pad_shape, and the words of `Convolution`, which
    take these shapes, too. Source: C3D's Caffe of 2016 (``NdConvolution``), of which the README is known.
    """

    type = "NdConvolution"
