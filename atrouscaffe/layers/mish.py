"""Mish."""

from __future__ import annotations

from typing import Any

from atrouscaffe.layers.base import register
from atrouscaffe.layers.pointwise import PointwiseByInput
from atrouscaffe.ops.activation import bnll

__all__ = ["Mish"]


@register
class Mish(PointwiseByInput):
    """y = x tanh(log(1 + exp(x))) (``mish_layer.cpp`` of YOLO's Caffe forks; Misra, 2019)."""

    type = "Mish"
    options = "mish_param"
    backward_reads = ("bottom",)

    @staticmethod
    def _gate(xp: Any, x: Any) -> tuple[Any, Any]:
        """Return log(1 + exp(x)) and its tanh."""
        soft = xp.empty_like(x)
        bnll(xp, x, soft)
        return soft, xp.tanh(soft)

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """y from x."""
        xp.multiply(x, self._gate(xp, x)[1], out=y)

    def apply_grad_by(self, xp: Any, x: Any, y: Any, dy: Any, dx: Any) -> None:
        """dx = dy (t + x (1 - t^2) sigmoid(x)), with t = tanh(log(1 + exp(x)))."""
        soft, gate = self._gate(xp, x)
        slope = -xp.expm1(-soft)
        slope *= x
        slope *= 1 - gate * gate
        slope += gate
        xp.multiply(dy, slope, out=dx)
