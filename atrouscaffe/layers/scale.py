"""Scale: multiply by a blob along some axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Blueprint, Context, Layer, Shape, register
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, IDENTITY
from atrouscaffe.ops.channels import affine, channel_sums, three_axes
from atrouscaffe.runtime.blob import Blob

__all__ = ["Scale"]


@register
class Scale(Layer):
    """Multiply bottom[0] by a learned blob or by bottom[1], and add a bias where bias_term says so.

    ``scale_param``: axis, num_axes (-1: all from `axis` on; 0: one number), filler (default 1),
    bias_term, bias_filler. With bottom[1], its shape says how many axes.

    Notes
    -----
    Source: ``scale_layer.cpp`` of BVLC.
    """

    type = "Scale"
    options = "scale_param"
    bottoms = (1, 2)
    in_place = True
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Tell parameters from bottoms."""
        self.learned = len(self.spec.bottoms) == 1
        if self.p.num_axes < -1:
            raise LayerError(f"num_axes: expected -1 or more, got {self.p.num_axes}")

    def _span(self, bottoms: Sequence[Shape]) -> tuple[int, int]:
        """Return the axes (from, to) that the factor covers."""
        shape, count = bottoms[0], self.p.num_axes
        begin = 0 if not shape or (not self.learned and not bottoms[1]) else self.axis(self.p.axis, len(shape))
        if not self.learned:
            count = len(bottoms[1])
        end = len(shape) if count < 0 else begin + count
        if end > len(shape):
            raise ShapeError(f"num_axes: expected at most {len(shape) - begin} from axis {begin} of a bottom of shape "
                             f"{shape}, got {count}")
        if not self.learned:
            self.want_same(shape[begin:end], bottoms[1], "bottom[1]")
        return begin, end

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As bottom[0]."""
        self._span(bottoms)
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Scale, unless it is bottom[1]; bias where asked for."""
        begin, end = self._span(bottoms)
        shape = tuple(bottoms[0][begin:end])
        blueprints = []
        if self.learned:
            blueprints.append(Blueprint(shape, self.p.filler if self.p.has("filler") else None, "scale", 1.0))
        if self.p.bias_term:
            blueprints.append(Blueprint(shape, self.p.bias_filler, "bias"))
        return blueprints

    def _views(self, bottom: Sequence[Blob], *arrays: np.ndarray) -> list[np.ndarray]:
        span = self._span([blob.shape for blob in bottom])
        return [three_axes(array, *span) for array in arrays]

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply it where it is learned, one number a channel."""
        return AFFINE if self.learned and self._span(bottoms) == (1, 2) else ""

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return what can follow a scale and a shift in one pass."""
        return (AFFINE, ACTIVATION, IDENTITY) if self.kind(bottoms) else ()

    def affine(self, params: Sequence[Blob]) -> tuple[Any, Any]:
        """Return the factors, and the biases where there are some."""
        return params[0].array, params[1].array if self.p.bias_term else 0.0

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Multiply and add; where the layer works in place its bottom is kept for backward."""
        x, y = self._views(bottom, bottom[0].array, top[0].array)
        if ctx.tail is not None:
            ctx.tail.apply(x, y, *self.affine(params))
            return
        factor = (params[0] if self.learned else bottom[1]).array.ravel()
        if ctx.keeps and bottom[0] is top[0]:
            ctx.saved["bottom"] = x.copy()
        affine(x, factor, params[-1].array.ravel() if self.p.bias_term else None, y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Sums of ``dy x`` into the factor, of ``dy`` into the bias; ``dy scale`` below."""
        x, dy = self._views(bottom, bottom[0].array, top[0].grad)
        if bottom[0] is top[0]:
            x = ctx.saved["bottom"]
        factor = params[0] if self.learned else bottom[1]
        if self.p.bias_term and ctx.param_propagate[-1]:
            params[-1].grad[...] += channel_sums(dy).reshape(params[-1].shape)
        if self.learned and ctx.param_propagate[0]:
            factor.grad[...] += channel_sums(dy, x).reshape(factor.shape)
        elif not self.learned and ctx.propagate[1]:
            factor.grad[...] = channel_sums(dy, x).reshape(factor.shape)
        if ctx.propagate[0]:
            affine(dy, factor.array.ravel(), None, bottom[0].grad.reshape(dy.shape))

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One a value."""
        return math.prod(bottoms[0])
