"""Deconvolution: transposed convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.layers.base import Blueprint, Context, Reach, Shape, register
from atrouscaffe.layers.convolution import Convolution
from atrouscaffe.layers.windows import conv_images
from atrouscaffe.ops.conv import conv_bias_gradient, conv_forward, conv_transpose, conv_weight_gradient
from atrouscaffe.runtime.blob import Blob

__all__ = ["Deconvolution"]


@register
class Deconvolution(Convolution):
    """The adjoint of a convolution, as a layer: enlarges by its stride.

    Options as in `Convolution`. The weight is (channels, num_output/group, \\*kernel).
    Source: ``deconv_layer.cpp``.
    """

    type = "Deconvolution"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Size ``stride (n-1) + extent - 2 pad`` along each axis."""
        for i, shape in enumerate(bottoms):
            self.want_same(bottoms[0], shape, f"bottom[{i}]")
        axis, spatial, windows = self._split(bottoms[0])
        self._channels(bottoms[0])
        out = tuple(w.deconv_size(n) for w, n in zip(windows, spatial))
        return [(*bottoms[0][:axis], self.p.num_output, *out)] * len(bottoms)

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Weight (channels, num_output/group, \\*kernel) and bias (num_output,)."""
        windows = self._split(bottoms[0])[2]
        shape = (self._channels(bottoms[0]), self.p.num_output // self.p.group, *(w.kernel for w in windows))
        blueprints = [Blueprint(shape, self.p.weight_filler, "weight")]
        if self.p.bias_term:
            blueprints.append(Blueprint((self.p.num_output,), self.p.bias_filler, "bias"))
        return blueprints

    def _fold(self, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Multiply the weights of each output by a number: outputs are the second axis."""
        factors = np.broadcast_to(scale, self.p.num_output).reshape(self.p.group, 1, -1, *(1,) * (weight.ndim - 2))
        grouped = weight.reshape(self.p.group, -1, *weight.shape[1:])
        return (grouped * factors).reshape(weight.shape)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Spread each pixel over its window."""
        windows = self._split(bottom[0].shape)[2]
        weight, bias, finish, keep = self._prepared(ctx, params)
        for below, above in zip(bottom, top):
            conv_transpose(conv_images(self, below.array), weight, bias, conv_images(self, above.array), windows,
                           self.p.group, finish, keep=keep, engine=ctx.engine)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Convolve below; sums over all bottoms into the parameters."""
        windows = self._split(bottom[0].shape)[2]
        for i, (below, above) in enumerate(zip(bottom, top)):
            dy = conv_images(self, above.grad)
            if ctx.param_propagate[0]:
                conv_weight_gradient(dy, conv_images(self, below.array), params[0].grad, windows, self.p.group,
                                     engine=ctx.engine)
            if self.p.bias_term and ctx.param_propagate[1]:
                conv_bias_gradient(dy, params[1].grad)
            if ctx.propagate[i]:
                conv_forward(dy, params[0].array, None, conv_images(self, below.grad), windows, self.p.group,
                             keep=ctx.keep(params[0]), engine=ctx.engine)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One multiply-add for each input value and tap of its group."""
        windows = self._split(bottoms[0])[2]
        taps = math.prod(w.kernel for w in windows) * (self.p.num_output // self.p.group)
        return sum(math.prod(bottom) for bottom in bottoms) * taps

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Output i gets from inputs ``ceil((i + pad - extent + 1) / stride)`` to ``(i + pad) // stride``."""
        pair = (Window(1), *self._split(bottoms[0])[2])[-2:]
        height, width = (Reach(-(-w.extent // w.stride), 1, (w.extent - 1 - w.pad) // w.stride, w.stride) for w in pair)
        return height, width
