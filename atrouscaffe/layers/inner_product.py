"""InnerProduct: a fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import GLOBAL, POINTWISE, Blueprint, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.inner_product import inner_product, inner_product_data_gradient, inner_product_weight_gradient
from atrouscaffe.runtime.blob import Blob

__all__ = ["InnerProduct"]


@register
class InnerProduct(Layer):
    """Multiply the axes from `axis` on, as one vector, by a matrix.

    ``inner_product_param``: num_output, bias_term, axis, transpose (the weight is then (inputs,
    num_output)), weight_filler, bias_filler. Source: ``inner_product_layer.cpp``.
    """

    type = "InnerProduct"
    options = "inner_product_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check num_output."""
        if not self.p.num_output:
            raise LayerError(f"num_output: expected at least 1, got {self.p.num_output or 'none'}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (…, num_output)."""
        return [(*bottoms[0][: self.axis(self.p.axis, len(bottoms[0]))], self.p.num_output)]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Weight (num_output, inputs), transposed where asked for, and bias (num_output,)."""
        inputs = math.prod(bottoms[0][self.axis(self.p.axis, len(bottoms[0])):])
        shape = (inputs, self.p.num_output) if self.p.transpose else (self.p.num_output, inputs)
        blueprints = [Blueprint(shape, self.p.weight_filler, "weight")]
        if self.p.bias_term:
            blueprints.append(Blueprint((self.p.num_output,), self.p.bias_filler, "bias"))
        return blueprints

    def _matrices(self, bottom: Blob, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        axis = self.axis(self.p.axis, len(bottom.shape))
        rows, inputs = math.prod(bottom.shape[:axis]), math.prod(bottom.shape[axis:])
        return x.reshape(rows, inputs), y.reshape(rows, self.p.num_output)

    def _turned(self, weight: np.ndarray) -> np.ndarray:
        return weight.T if self.p.transpose else weight

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Multiply."""
        x, y = self._matrices(bottom[0], bottom[0].array, top[0].array)
        inner_product(x, self._turned(params[0].array), params[1].array if self.p.bias_term else None, y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Transposed products."""
        x, dy = self._matrices(bottom[0], bottom[0].array, top[0].grad)
        if ctx.param_propagate[0]:
            inner_product_weight_gradient(x, dy, self._turned(params[0].grad))
        if self.p.bias_term and ctx.param_propagate[1]:
            params[1].grad[...] += dy.sum(axis=0)
        if ctx.propagate[0]:
            inner_product_data_gradient(dy, self._turned(params[0].array), bottom[0].grad.reshape(x.shape))

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Inputs times outputs."""
        return math.prod(bottoms[0]) * self.p.num_output

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """The whole image, unless only axes behind width are multiplied."""
        covered = self.axis(self.p.axis, len(bottoms[0])) <= 3 and len(bottoms[0]) > 2
        return (GLOBAL, GLOBAL) if covered else (POINTWISE, POINTWISE)
