"""Embed: rows of a table, chosen by index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.layers.base import Blueprint, Context, Layer, Shape, register
from atrouscaffe.ops.rows import add_rows, take_rows
from atrouscaffe.runtime.blob import Blob

__all__ = ["Embed"]


@register
class Embed(Layer):
    """Look up row ``bottom[0]`` of a learned table.

    ``embed_param``: num_output, input_dim, bias_term, weight_filler, bias_filler. An index outside
    the table is an error. Source: ``embed_layer.cpp``.
    """

    type = "Embed"
    options = "embed_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the table's size."""
        if not self.p.num_output or not self.p.input_dim:
            raise LayerError(f"num_output, input_dim: expected at least 1, got {self.p.num_output or 'none'} and "
                             f"{self.p.input_dim or 'none'}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (…, num_output)."""
        return [(*bottoms[0], self.p.num_output)]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Table (input_dim, num_output) and bias (num_output,)."""
        blueprints = [Blueprint((self.p.input_dim, self.p.num_output), self.p.weight_filler, "weight")]
        if self.p.bias_term:
            blueprints.append(Blueprint((self.p.num_output,), self.p.bias_filler, "bias"))
        return blueprints

    def allows_gradient(self, bottom: int) -> bool:
        """Indices have none."""
        return False

    def _indices(self, bottom: Blob) -> np.ndarray:
        values = bottom.host().ravel()
        if values.size and not (values.min() >= 0 and values.max() < self.p.input_dim):
            raise DataError(f"bottom[0]: expected indices 0 to {self.p.input_dim - 1}, got {values.min():g} to "
                            f"{values.max():g}")
        return values.astype(np.intp)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy rows."""
        y = top[0].array.reshape(-1, self.p.num_output)
        take_rows(params[0].array, self._indices(bottom[0]), y)
        if self.p.bias_term:
            y += params[1].array

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add up the gradients of each row's uses, in order."""
        dy = top[0].grad.reshape(-1, self.p.num_output)
        if ctx.param_propagate[0]:
            add_rows(params[0].grad, self._indices(bottom[0]), dy)
        if self.p.bias_term and ctx.param_propagate[1]:
            params[1].grad[...] += dy.sum(axis=0)
