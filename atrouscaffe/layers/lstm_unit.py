"""LSTMUnit: one step of an LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.layers.lstm import sigmoid
from atrouscaffe.runtime.blob import Blob

__all__ = ["LSTMUnit"]


@register
class LSTMUnit(Layer):
    """c = cont f c_before + i g, h = o tanh(c).

    Bottoms: c_before (1, N, D), the gates' inputs (1, N, 4 D) in the order i, f, o, g, continuation marks (1, N).
    Tops: c and h, (1, N, D) each. Source: ``lstm_unit_layer.cpp`` of BVLC.
    """

    type = "LSTMUnit"
    bottoms = (3, 3)
    tops = (2, 2)
    backward_reads = ("bottom", "top")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As c, twice."""
        self.want_rank(bottoms[0], 3)
        steps, streams, size = bottoms[0]
        if steps != 1:
            raise ShapeError(f"bottom[0]: expected one step, got shape {tuple(bottoms[0])}")
        self.want_same((1, streams, 4 * size), bottoms[1], "bottom[1] (gates)")
        self.want_same((1, streams), bottoms[2], "bottom[2] (continuation marks)")
        return [bottoms[0], bottoms[0]]

    def allows_gradient(self, bottom: int) -> bool:
        """All but the continuation marks."""
        return bottom != 2

    @staticmethod
    def _gates(xp: Any, bottom: Sequence[Blob]) -> tuple[Any, Any, Any, Any, Any]:
        i, f, o, g = xp.split(bottom[1].array, 4, axis=2)
        return sigmoid(xp, i), sigmoid(xp, f), sigmoid(xp, o), xp.tanh(g), bottom[2].array[:, :, None]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """One step."""
        i, f, o, g, marks = self._gates(ctx.xp, bottom)
        top[0].array[...] = marks * f * bottom[0].array + i * g
        top[1].array[...] = o * ctx.xp.tanh(top[0].array)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """The step's gradient."""
        xp = ctx.xp
        i, f, o, g, marks = self._gates(xp, bottom)
        bent = xp.tanh(top[0].array)
        dh = top[1].grad
        dc = top[0].grad + dh * o * (1 - bent * bent)
        if ctx.propagate[1]:
            bottom[1].grad[...] = xp.concatenate([
                dc * g * i * (1 - i), dc * bottom[0].array * marks * f * (1 - f), dh * bent * o * (1 - o),
                dc * i * (1 - g * g)], axis=2)
        if ctx.propagate[0]:
            bottom[0].grad[...] = dc * marks * f
