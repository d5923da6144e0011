"""Activation functions and their gradients, as kernels for `elementwise.spread`.

Each takes the array module first, then pieces of equal size, and writes into the last one. Gradients
are written in terms of the output `y` wherever it decides them, so that they also hold in place,
where the input is gone. `y` may be `x` and `dx` may be `dy`. On a CUDA device each is one pass of
``kernels/activation.cu``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.ops.elementwise import over_tiles
from atrouscaffe.runtime.backend import on_device

__all__ = ["bnll", "bnll_grad", "clip", "clip_grad", "elu", "elu_grad", "exp_affine", "exp_affine_grad", "gate",
           "leaky", "leaky_grad", "log_affine", "log_affine_grad", "power", "power_grad", "prelu",
           "prelu_grad", "relu", "relu6", "relu6_grad", "relu_grad", "sigmoid", "sigmoid_grad", "swish", "swish_grad",
           "tanh", "tanh_grad", "threshold"]


def _on_device(name: str, *arrays: Any, numbers: tuple[float, ...] = ()) -> bool:
    """Run a kernel where the arrays lie on a CUDA device; return whether they do."""
    if not on_device(arrays[0]):
        return False
    from atrouscaffe.ops import activation_cuda

    activation_cuda.apply(name, arrays, numbers)
    return True


def relu(xp: Any, x: Any, y: Any, slope: float = 0.0) -> None:
    """y = max(x, 0) + slope min(x, 0)."""
    if _on_device("leaky", x, y, numbers=(slope,)):
        return
    if slope == 0:
        xp.maximum(x, 0, out=y)
        return
    leaky(xp, x, slope, y)


def leaky(xp: Any, x: Any, slope: Any, y: Any) -> None:
    """y = max(x, 0) + slope min(x, 0) for a number or an array that goes with x; in main memory."""
    if xp.all(xp.asarray(slope) <= 1):
        below = x * slope
        xp.maximum(x, below, out=y)
        return
    below = xp.minimum(x, 0)
    below *= slope
    xp.maximum(x, 0, out=y)
    y += below


def leaky_grad(xp: Any, x: Any, slope: Any, dy: Any, dx: Any) -> None:
    """dx = dy where x > 0, else slope dy; in main memory.

    Masks become factors: that is several times as fast as choosing.
    """
    above = (x > 0).astype(dx.dtype)
    factor = 1 - above
    factor *= slope
    factor += above
    xp.multiply(dy, factor, out=dx)


def relu_grad(xp: Any, y: Any, dy: Any, dx: Any, slope: float = 0.0) -> None:
    """dx = dy where y > 0, else slope dy; at 0 the slope, as in Caffe.

    Any array with the signs of x may stand for `y`.
    """
    if _on_device("leaky_grad", y, dy, dx, numbers=(slope,)):
        return
    if slope == 0:
        xp.multiply(dy, y > 0, out=dx)
    else:
        leaky_grad(xp, y, slope, dy, dx)


def relu6(xp: Any, x: Any, y: Any) -> None:
    """y = min(max(x, 0), 6)."""
    if _on_device("clip", x, y, numbers=(0, 6)):
        return
    xp.clip(x, 0, 6, out=y)


def relu6_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy where 0 < y < 6."""
    if _on_device("relu6_grad", y, dy, dx):
        return
    xp.multiply(dy, (y > 0) & (y < 6), out=dx)


def gate(xp: Any, mask: Any, dy: Any, dx: Any) -> None:
    """dx = dy where `mask` is set, else 0."""
    xp.multiply(dy, mask, out=dx)


def elu(xp: Any, x: Any, y: Any, alpha: float = 1.0) -> None:
    """y = x above 0, else alpha (exp(x) - 1)."""
    if _on_device("elu", x, y, numbers=(alpha,)):
        return
    below = xp.minimum(x, 0)
    xp.expm1(below, out=below)
    below *= alpha
    xp.maximum(x, 0, out=y)
    y += below


def elu_grad(xp: Any, y: Any, dy: Any, dx: Any, alpha: float = 1.0) -> None:
    """dx = dy above 0, else dy (y + alpha). Needs alpha >= 0."""
    if _on_device("elu_grad", y, dy, dx, numbers=(alpha,)):
        return
    above = (y > 0).astype(dx.dtype)
    factor = xp.minimum(y, 0)
    factor += alpha
    factor *= 1 - above
    factor += above
    xp.multiply(dy, factor, out=dx)


def sigmoid(xp: Any, x: Any, y: Any) -> None:
    """y = 1 / (1 + exp(-x))."""
    if _on_device("sigmoid", x, y):
        return
    xp.negative(x, out=y)
    xp.exp(y, out=y)
    y += 1
    xp.reciprocal(y, out=y)


def sigmoid_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy y (1 - y)."""
    if _on_device("sigmoid_grad", y, dy, dx):
        return
    factor = 1 - y
    factor *= y
    xp.multiply(dy, factor, out=dx)


def tanh(xp: Any, x: Any, y: Any) -> None:
    """y = tanh(x)."""
    if _on_device("tanh_forward", x, y):
        return
    xp.tanh(x, out=y)


def tanh_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy (1 - y^2)."""
    if _on_device("tanh_grad", y, dy, dx):
        return
    factor = y * y
    xp.subtract(1, factor, out=factor)
    xp.multiply(dy, factor, out=dx)


def bnll(xp: Any, x: Any, y: Any) -> None:
    """y = log(1 + exp(x)), without overflow."""
    if _on_device("bnll", x, y):
        return
    tail = xp.abs(x)
    xp.negative(tail, out=tail)
    xp.exp(tail, out=tail)
    xp.log1p(tail, out=tail)
    xp.maximum(x, 0, out=y)
    y += tail


def bnll_grad(xp: Any, y: Any, dy: Any, dx: Any) -> None:
    """dx = dy sigmoid(x), which is dy (1 - exp(-y))."""
    if _on_device("bnll_grad", y, dy, dx):
        return
    factor = xp.negative(y)
    xp.expm1(factor, out=factor)
    xp.negative(factor, out=factor)
    xp.multiply(dy, factor, out=dx)


def swish(xp: Any, x: Any, y: Any, beta: float = 1.0) -> None:
    """y = x sigmoid(beta x)."""
    if _on_device("swish", x, y, numbers=(beta,)):
        return
    xp.multiply(x, _swish_gate(xp, x, beta), out=y)


def swish_grad(xp: Any, y: Any, x: Any, dy: Any, dx: Any, beta: float = 1.0) -> None:
    """dx = dy (beta y + s (1 - beta y)) with s = sigmoid(beta x)."""
    if _on_device("swish_grad", y, x, dy, dx, numbers=(beta,)):
        return
    inner = y * beta
    factor = 1 - inner
    factor *= _swish_gate(xp, x, beta)
    factor += inner
    xp.multiply(dy, factor, out=dx)


def _swish_gate(xp: Any, x: Any, beta: float) -> Any:
    """sigmoid(beta x), in a new array."""
    gate = x * beta
    sigmoid(xp, gate, gate)
    return gate


def clip(xp: Any, x: Any, y: Any, low: float, high: float) -> None:
    """y = min(max(x, low), high)."""
    if _on_device("clip", x, y, numbers=(low, high)):
        return
    xp.clip(x, low, high, out=y)


def clip_grad(xp: Any, x: Any, dy: Any, dx: Any, low: float, high: float) -> None:
    """dx = dy where low <= x <= high."""
    if _on_device("clip_grad", x, dy, dx, numbers=(low, high)):
        return
    gate(xp, (x >= low) & (x <= high), dy, dx)


def threshold(xp: Any, x: Any, y: Any, limit: float) -> None:
    """y = 1 where x > limit, else 0."""
    if _on_device("threshold", x, y, numbers=(limit,)):
        return
    y[...] = x > limit


def power(xp: Any, x: Any, y: Any, exponent: float, scale: float, shift: float) -> None:
    """y = (shift + scale x) ^ exponent."""
    if _on_device("power", x, y, numbers=(exponent, scale, shift)):
        return
    xp.multiply(x, scale, out=y)
    if shift != 0:
        y += shift
    if exponent == 2:
        xp.multiply(y, y, out=y)
    elif exponent != 1:
        xp.power(y, exponent, out=y)


def power_grad(xp: Any, x: Any, dy: Any, dx: Any, exponent: float, scale: float, shift: float) -> None:
    """dx = dy exponent scale (shift + scale x) ^ (exponent - 1)."""
    slope = exponent * scale
    if _on_device("power_grad", x, dy, dx, numbers=(exponent - 1, scale, shift, slope)):
        return
    factor = xp.empty_like(x)
    power(xp, x, factor, exponent - 1, scale, shift)
    factor *= slope
    xp.multiply(dy, factor, out=dx)


def exp_affine(xp: Any, x: Any, y: Any, scale: float, shift: float) -> None:
    """y = exp(shift + scale x)."""
    if _on_device("exp_affine", x, y, numbers=(scale, shift)):
        return
    xp.multiply(x, scale, out=y)
    y += shift
    xp.exp(y, out=y)


def exp_affine_grad(xp: Any, y: Any, dy: Any, dx: Any, scale: float) -> None:
    """dx = dy y scale."""
    if _on_device("exp_affine_grad", y, dy, dx, numbers=(scale,)):
        return
    factor = y * scale
    xp.multiply(dy, factor, out=dx)


def log_affine(xp: Any, x: Any, y: Any, scale: float, shift: float, base: float) -> None:
    """y = log(shift + scale x) / base; `base` is the base's logarithm."""
    if _on_device("log_affine", x, y, numbers=(scale, shift, base)):
        return
    xp.multiply(x, scale, out=y)
    y += shift
    xp.log(y, out=y)
    y /= base


def log_affine_grad(xp: Any, values: Any, dy: Any, dx: Any, scale: float, shift: float, base: float,
                    in_place: bool) -> None:
    """dx = dy scale / (base (shift + scale x)); `values` is x, or with `in_place` y."""
    if _on_device("log_affine_grad", values, dy, dx, numbers=(scale, shift, base, in_place)):
        return
    inner = xp.exp(values * base) if in_place else values * scale + shift
    xp.divide(dy, inner, out=dx)
    dx *= scale / base


def prelu(x: Any, slope: Any, y: Any) -> None:
    """Write ``y = max(x, 0) + slope min(x, 0)``.

    Parameters
    ----------
    x, y : (outer, C, inner) array
        They may be the same.
    slope : (C,) or (1,) array
    """
    if on_device(x):
        from atrouscaffe.ops import activation_cuda

        activation_cuda.prelu(x, slope, y)
        return
    slopes = slope.reshape(1, -1, 1)
    over_tiles(x.shape, lambda rows, columns: leaky(np, x[rows, :, columns], slopes, y[rows, :, columns]))


def prelu_grad(x: Any, slope: Any, dy: Any, dx: Any, want_slope: bool) -> Any:
    """Write ``dx = dy`` where x > 0, else ``slope dy``; return the gradient of each channel's slope.

    Parameters
    ----------
    x, dy : (outer, C, inner) array
    slope : (C,) or (1,) array
    dx : (outer, C, inner) array or None
        May be `dy`.
    want_slope : bool

    Returns
    -------
    (C,) array or None
        Sums of ``dy min(x, 0)``; None unless they are wanted.
    """
    if on_device(x):
        from atrouscaffe.ops import activation_cuda

        return activation_cuda.prelu_grad(x, slope, dy, dx, want_slope)
    slopes = slope.reshape(1, -1, 1)

    def work(rows: slice, columns: slice) -> Any:
        part, grad = x[rows, :, columns], dy[rows, :, columns]
        total = None
        if want_slope:  # before dx is written, which may be dy
            below = np.minimum(part, 0)
            below *= grad
            total = below.sum(axis=(0, 2))
        if dx is not None:
            leaky_grad(np, part, slopes, grad, dx[rows, :, columns])
        return total

    sums = over_tiles(x.shape, work)
    return np.sum(sums, axis=0) if want_slope else None
