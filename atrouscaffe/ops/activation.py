"""Activation functions and their gradients, as kernels for `elementwise.spread`.

Each takes the array module first, then pieces of equal size, and writes into the last one. Gradients
are written in terms of the output `y` wherever it decides them, so that they also hold in place,
where the input is gone. `y` may be `x` and `dx` may be `dy`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["bnll", "bnll_grad", "elu", "elu_grad", "gate", "leaky", "leaky_grad", "relu", "relu6",
           "relu6_grad", "relu_grad", "sigmoid", "sigmoid_grad", "swish_grad", "tanh", "tanh_grad"]


def relu(xp: Any, x: Any, y: Any, slope: float = 0.0) -> None:
    """y = max(x, 0) + slope min(x, 0)."""
    if slope == 0:
        xp.maximum(x, 0, out=y)
        return
    leaky(xp, x, slope, y)


def leaky(xp: Any, x: Any, slope: Any, y: Any) -> None:
    """y = max(x, 0) + slope min(x, 0) for a number or an array that goes with x."""
    if xp.all(xp.asarray(slope) <= 1):
        below = x * slope
        xp.maximum(x, below, out=y)
        return
    below = xp.minimum(x, 0)
    below *= slope
    xp.maximum(x, 0, out=y)
    y += below


def leaky_grad(xp: Any, x: Any, slope: Any, dy: Any, dx: Any) -> None:
    """dx = dy where x > 0, else slope dy. Masks become factors: that is several times as fast as choosing."""
    above = (x > 0).astype(dx.dtype)
    factor = 1 - above
    factor *= slope
    factor += above
    xp.multiply(dy, factor, out=dx)


def relu_grad(xp: Any, y: Any, dy: Any, dx: Any, slope: float = 0.0) -> None:
    """dx = dy where y > 0, else slope dy; at 0 the slope, as in Caffe.

    Any array with the signs of x may stand for `y`.
    """
    if slope == 0:
        xp.multiply(dy, y > 0, out=dx)
    else:
        leaky_grad(xp, y, slope, dy, dx)


def relu6(xp: Any, x: Any, y: Any) -> None:
    """y = min(max(x, 0), 6)."""
    xp.clip(x, 0, 6, out=y)


def relu6_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy where 0 < y < 6."""
    xp.multiply(dy, (y > 0) & (y < 6), out=dx)


def gate(xp: Any, mask: Any, dy: Any, dx: Any) -> None:
    """dx = dy where `mask` is set, else 0."""
    xp.multiply(dy, mask, out=dx)


def elu(xp: Any, x: Any, y: Any, alpha: float = 1.0) -> None:
    """y = x above 0, else alpha (exp(x) - 1)."""
    below = xp.minimum(x, 0)
    xp.expm1(below, out=below)
    below *= alpha
    xp.maximum(x, 0, out=y)
    y += below


def elu_grad(xp: Any, y: Any, dy: Any, dx: Any, alpha: float = 1.0) -> None:
    """dx = dy above 0, else dy (y + alpha). Needs alpha >= 0."""
    above = (y > 0).astype(dx.dtype)
    factor = xp.minimum(y, 0)
    factor += alpha
    factor *= 1 - above
    factor += above
    xp.multiply(dy, factor, out=dx)


def sigmoid(xp: Any, x: Any, y: Any) -> None:
    """y = 1 / (1 + exp(-x))."""
    xp.negative(x, out=y)
    xp.exp(y, out=y)
    y += 1
    xp.reciprocal(y, out=y)


def sigmoid_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy y (1 - y)."""
    factor = 1 - y
    factor *= y
    xp.multiply(dy, factor, out=dx)


def tanh(xp: Any, x: Any, y: Any) -> None:
    """y = tanh(x)."""
    xp.tanh(x, out=y)


def tanh_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy (1 - y^2)."""
    factor = y * y
    xp.subtract(1, factor, out=factor)
    xp.multiply(dy, factor, out=dx)


def bnll(xp: Any, x: Any, y: Any) -> None:
    """y = log(1 + exp(x)), without overflow."""
    tail = xp.abs(x)
    xp.negative(tail, out=tail)
    xp.exp(tail, out=tail)
    xp.log1p(tail, out=tail)
    xp.maximum(x, 0, out=y)
    y += tail


def bnll_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy sigmoid(x), which is dy (1 - exp(-y))."""
    factor = xp.negative(y)
    xp.expm1(factor, out=factor)
    xp.negative(factor, out=factor)
    xp.multiply(dy, factor, out=dx)


def swish_grad(xp: Any, y: Any, s: Any, dy: Any, dx: Any, beta: float = 1.0) -> None:
    """dx = dy (beta y + s (1 - beta y))."""
    inner = y * beta
    factor = 1 - inner
    factor *= s
    factor += inner
    xp.multiply(dy, factor, out=dx)
