"""Launches of ``kernels/depthwise.cu``: convolution in groups of few channels, see `atrouscaffe.ops.conv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.geometry import Window
from atrouscaffe.ops.im2col import geo_of
from atrouscaffe.ops.im2col_cuda import reader_steps
from atrouscaffe.runtime.kernels import launch

__all__ = ["depthwise_forward", "depthwise_transpose", "depthwise_weight_gradient"]

ROWS = 4
"""Output rows that one thread takes; as in the kernel."""


def _sizes(x: Any, y: Any, group: int) -> tuple[int, ...]:
    """Return (inputs, height, width, outputs, out_h, out_w, inputs a group, outputs a group)."""
    return (*x.shape[1:], *y.shape[1:], x.shape[1] // group, y.shape[1] // group)


def depthwise_forward(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], group: int,
                      relu: bool = False) -> None:
    """Write ``y = conv(x, weight) + bias``, with `relu` its positive part."""
    count = y.shape[0] * y.shape[1] * -(-y.shape[2] // ROWS) * y.shape[3]
    launch("depthwise", "depthwise", count,
           (x, weight, bias, y, count, *_sizes(x, y, group), *geo_of(windows), relu), real=x.dtype)


def depthwise_transpose(dy: Any, weight: Any, bias: Any, x: Any, windows: Sequence[Window], group: int) -> None:
    """Write the adjoint of `depthwise_forward` into x."""
    geo = geo_of(windows)
    launch("depthwise", "depthwise_adjoint", x.size,
           (dy, weight, bias, x, x.size, *_sizes(x, dy, group), *geo, *reader_steps(geo)), real=x.dtype)


def depthwise_weight_gradient(x: Any, dy: Any, dweight: Any, windows: Sequence[Window], group: int) -> None:
    """Add the gradient of `depthwise_forward`'s weight to `dweight`."""
    launch("depthwise", "depthwise_weight", (dweight.size,),
           (x, dy, dweight, len(x), *_sizes(x, dy, group), *geo_of(windows)), real=x.dtype)
