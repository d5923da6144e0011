"""Convolution, with holes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.geometry import Window
from atrouscaffe.layers.base import Blueprint, Context, Layer, Reach, Shape, register
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, IDENTITY, SUM
from atrouscaffe.layers.windows import conv_images, conv_reach, conv_spatial, conv_windows
from atrouscaffe.ops.conv import conv_bias_gradient, conv_forward, conv_transpose, conv_weight_gradient
from atrouscaffe.ops.finish import PLAIN, RELU, Finish
from atrouscaffe.ops.keep import Keep
from atrouscaffe.ops.packed import packed_conv
from atrouscaffe.runtime.blob import Blob

__all__ = ["Convolution"]

MOST_SHAPES = 64


@register
class Convolution(Layer):
    """Convolve each bottom with the same weights.

    ``convolution_param``: num_output, kernel_size (or kernel_h, kernel_w), stride, pad, hole
    (dilation), group, bias_term, axis, weight_filler, bias_filler. `engine` and `force_nd_im2col`
    choose among the original's programs and have no meaning here.

    Notes
    -----
    Output size ``(n + 2 pad - (kernel + (kernel-1)(hole-1))) // stride + 1``; hole zero is refused,
    as in the original. Source: ``conv_layer.cpp``, ``base_conv_layer.cpp``.
    """

    type = "Convolution"
    options = "convolution_param"
    bottoms = (1, None)
    tops = (1, None)
    same_tops = True
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check num_output and group."""
        if not self.p.num_output:
            raise LayerError(f"num_output: expected at least 1, got {self.p.num_output or 'none'}")
        self._check_group(self.p.group)

    def _check_group(self, group: int) -> None:
        if group < 1 or self.p.num_output % group:
            raise LayerError(f"num_output: expected a multiple of group ({group}), got {self.p.num_output}")

    def group(self, shape: Shape) -> int:
        """Return the number of groups for a bottom of this shape."""
        return self.p.group

    @functools.cached_property
    def _splits(self) -> dict[Shape, tuple[int, tuple[int, ...], tuple[Window, ...]]]:
        """What `_split` returned for the latest shapes."""
        return {}

    def _split(self, shape: Shape) -> tuple[int, tuple[int, ...], tuple[Window, ...]]:
        found = self._splits.get(shape)
        if found is None:
            axis, spatial = conv_spatial(self, shape)
            found = axis, spatial, conv_windows(self.p, len(spatial))
            if len(self._splits) >= MOST_SHAPES:
                self._splits.clear()
            self._splits[shape] = found
        return found

    def _channels(self, shape: Shape) -> int:
        channels = shape[conv_spatial(self, shape)[0]]
        group = self.group(shape)
        if channels % group or not channels:
            raise ShapeError(f"channels: expected a multiple of group ({group}), got {channels} (shape {shape})")
        return channels

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """All bottoms have one shape."""
        for i, shape in enumerate(bottoms):
            self.want_same(bottoms[0], shape, f"bottom[{i}]")
        axis, spatial, windows = self._split(bottoms[0])
        self._channels(bottoms[0])
        out = tuple(w.conv_size(n) for w, n in zip(windows, spatial))
        return [(*bottoms[0][:axis], self.p.num_output, *out)] * len(bottoms)

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Weight (num_output, channels/group, \\*kernel) and bias (num_output,)."""
        windows = self._split(bottoms[0])[2]
        shape = (self.p.num_output, self._channels(bottoms[0]) // self.group(bottoms[0]), *(w.kernel for w in windows))
        blueprints = [Blueprint(shape, self.p.weight_filler, "weight")]
        if self.p.bias_term:
            blueprints.append(Blueprint((self.p.num_output,), self.p.bias_filler, "bias"))
        return blueprints

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return what the kernels do to outputs in their registers, and what can be folded into the weights."""
        return (AFFINE, SUM, ACTIVATION, IDENTITY) if len(bottoms) == 1 and self._split(bottoms[0])[0] == 1 else ()

    def _fold(self, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Multiply the weights of each output by a number."""
        return weight * np.broadcast_to(scale, self.p.num_output).reshape(-1, *(1,) * (weight.ndim - 1))

    def _prepared(self, ctx: Context, params: Sequence[Blob]) -> tuple[np.ndarray, np.ndarray | None, Finish, Keep]:
        """Return weight, bias, what is done to the outputs, and what keeps values derived from the weights."""
        weight, bias = params[0].array, params[1].array if self.p.bias_term else None
        if ctx.tail is None:
            return weight, bias, RELU if ctx.relu else PLAIN, ctx.keep(params[0])
        if not ctx.tail.affine:
            return weight, bias, ctx.tail.finish(), ctx.keep(params[0])
        weight, bias, keep = ctx.tail.folded(params, self._fold, self.p.num_output)
        return weight, bias, ctx.tail.finish(), keep

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Convolve."""
        windows, group = self._split(bottom[0].shape)[2], self.group(bottom[0].shape)
        if any(ctx.packed):
            bias = params[1].array if self.p.bias_term else None
            packed_conv(bottom[0].array, params[0].array, bias, top[0].array, windows, ctx.relu, ctx.packed)
            return
        weight, bias, finish, keep = self._prepared(ctx, params)
        for below, above in zip(bottom, top):
            conv_forward(conv_images(self, below.array), weight, bias, conv_images(self, above.array), windows,
                         group, finish, keep=keep, engine=ctx.engine)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Transposed convolution below; sums over all bottoms into the parameters."""
        windows, group = self._split(bottom[0].shape)[2], self.group(bottom[0].shape)
        for i, (below, above) in enumerate(zip(bottom, top)):
            dy = conv_images(self, above.grad)
            if ctx.param_propagate[0]:
                conv_weight_gradient(conv_images(self, below.array), dy, params[0].grad, windows, group,
                                     engine=ctx.engine)
            if self.p.bias_term and ctx.param_propagate[1]:
                conv_bias_gradient(dy, params[1].grad)
            if ctx.propagate[i]:
                conv_transpose(dy, params[0].array, None, conv_images(self, below.grad), windows, group,
                               keep=ctx.keep(params[0]), engine=ctx.engine)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One multiply-add for each output value and tap of its group."""
        axis, _, windows = self._split(bottoms[0])
        taps = math.prod(w.kernel for w in windows) * (bottoms[0][axis] // self.group(bottoms[0]))
        return sum(math.prod(top) for top in tops) * taps

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """The window with its holes."""
        return conv_reach(self._split(bottoms[0])[2])
