"""Bias: add a blob along some axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Blueprint, Context, Shape, register
from atrouscaffe.layers.scale import Scale
from atrouscaffe.ops.channels import affine, channel_sums
from atrouscaffe.runtime.blob import Blob

__all__ = ["Bias"]


@register
class Bias(Scale):
    """Add a learned blob or bottom[1] to bottom[0].

    ``bias_param``: axis, num_axes, filler (default 0), as in `Scale`. Source: ``bias_layer.cpp``.
    """

    type = "Bias"
    options = "bias_param"
    backward_reads = ()

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Bias, unless it is bottom[1]."""
        begin, end = self._span(bottoms)
        return [Blueprint(tuple(bottoms[0][begin:end]), self.p.filler, "bias")] if self.learned else []

    def affine(self, params: Sequence[Blob]) -> tuple[Any, Any]:
        """Return 1 and the biases."""
        return 1.0, params[0].array

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add."""
        x, y = self._views(bottom, bottom[0].array, top[0].array)
        if ctx.tail is not None:
            ctx.tail.apply(x, y, *self.affine(params))
            return
        affine(x, None, (params[0] if self.learned else bottom[1]).array.ravel(), y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """The gradient as it is below, its sums into the bias."""
        (dy,) = self._views(bottom, top[0].grad)
        if self.learned and ctx.param_propagate[0]:
            params[0].grad[...] += channel_sums(dy).reshape(params[0].shape)
        elif not self.learned and ctx.propagate[1]:
            bottom[1].grad[...] = channel_sums(dy).reshape(bottom[1].shape)
        if ctx.propagate[0] and bottom[0].grad is not top[0].grad:
            bottom[0].grad[...] = top[0].grad
