"""Convolution on a CUDA device: see `atrouscaffe.ops.conv`.

Forward takes one of two ways, the faster one as measured on the device (`atrouscaffe.ops.choice_cuda`):
by columns and cuBLAS, here, or by kernels that sample the holes as they multiply
(`atrouscaffe.ops.conv_implicit_cuda`), which alone know packed values. ``ATROUSCAFFE_CONVOLUTION`` set to
``explicit`` or ``implicit`` when a net is made decides without measuring. Gradients go by columns. Groups of
few channels have kernels of their own (`atrouscaffe.ops.depthwise_cuda`).

Columns are made for blocks of output pixels of as many images as fit into `COLUMN_BYTES`, and one
batched matrix product takes a block. A 1x1 kernel at stride 1 multiplies the image itself. With
``precision="fp16"`` columns and weights are rounded to half precision on the way into the product,
whose sums are float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from atrouscaffe.errors import DeviceError
from atrouscaffe.geometry import Window
from atrouscaffe.ops.choice_cuda import choose, known_choice
from atrouscaffe.ops.conv_implicit_cuda import Job, Plan, implicit_forward, implicit_supported, pack_weight, plans
from atrouscaffe.ops.depthwise_cuda import depthwise_forward, depthwise_transpose, depthwise_weight_gradient
from atrouscaffe.ops.half_cuda import half_weight, operand_type, to_half
from atrouscaffe.ops.im2col import geo_of, is_direct, is_pointwise, taps_of
from atrouscaffe.ops.im2col_cuda import add_columns, fill_columns
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.cublas import gemm
from atrouscaffe.runtime.cuda import cached, current, recording
from atrouscaffe.runtime.kernels import launch

__all__ = ["COLUMN_BYTES", "add_bias", "conv_bias_gradient", "conv_forward", "conv_packed", "conv_transpose",
           "conv_weight_gradient"]

COLUMN_BYTES = 2**28
"""About how much one block of columns may take: wide enough for cuBLAS, small beside a card's memory."""

PLANS_TRIED = 6
"""How many plans of the implicit kernels are measured, those first that are expected to be fastest."""


def conv_forward(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], group: int = 1,
                 relu: bool = False) -> None:
    """Write ``y = conv(x, weight) + bias``, with `relu` its positive part; shapes as in the contract, two axes."""
    if is_direct(weight, y.shape[1], group):
        depthwise_forward(x, weight, bias, y, windows, group, relu)
        return
    way = _way(x, weight, bias, y, windows, group, relu)
    if way == "explicit":
        _explicit(x, weight, bias, y, windows, group, relu)
    else:
        _implicit(x, weight, bias, y, windows, group, relu, way)


def conv_packed(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], relu: bool, packed_x: Any,
                packed_y: Any) -> None:
    """Convolve between packed values (`atrouscaffe.ops.packed`), in half precision and one group.

    Parameters
    ----------
    x, weight, bias, y, windows, relu
        As in `conv_forward`.
    packed_x, packed_y : (N, pixels, 1, channels) float16 array, or None
        Read instead of x, and written instead of y, where given.
    """
    way = _way(x, weight, bias, y, windows, 1, relu, packed_x, packed_y)
    _implicit(x, weight, bias, y, windows, 1, relu, way, packed_x, packed_y)


def _way(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], group: int, relu: bool,
         packed_x: Any = None, packed_y: Any = None) -> str:
    """Choose between ``"explicit"`` and the implicit kernels' plans, named as ``"tile/splits"``."""
    backend = current()
    packed = packed_x is not None or packed_y is not None
    if backend is None or x.dtype != np.float32 or backend.convolution == "explicit" or not implicit_supported(
            windows, group, x.shape[1], y.shape[1], backend.precision, backend.capability):
        return "explicit"
    try:
        job = Job.of(x.shape, y.shape, windows, group, backend.precision)
    except DeviceError:  # more numbers than the implicit kernels count
        if packed or backend.convolution == "implicit":
            raise
        return "explicit"
    names = [f"{plan.tile}/{plan.splits}" for plan in plans(job, backend.capability)[:PLANS_TRIED]]
    if backend.convolution == "implicit":
        return names[0]
    question = (f"conv {backend.precision} {x.shape} {weight.shape} {geo_of(windows)} {group} {relu} "
                f"{packed_x is not None} {packed_y is not None}")
    known = known_choice(backend, question)
    if known is not None and (known in names or (known == "explicit" and not packed)):
        return known
    if recording():
        return names[0]  # nothing can be measured now; a pass runs once before it is recorded, so this is rare
    ways = {name: partial(_implicit, x, weight, bias, y, windows, group, relu, name, packed_x, packed_y)
            for name in names}
    if not packed:
        ways["explicit"] = partial(_explicit, x, weight, bias, y, windows, group, relu)
    return choose(backend, question, ways)


def _implicit(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], group: int, relu: bool, way: str,
              packed_x: Any = None, packed_y: Any = None) -> None:
    """Convolve by the kernels that sample the holes as they multiply."""
    backend = current()
    precision = "fp32" if backend is None else backend.precision
    tile, splits = way.split("/")
    packed = cached(f"packed {precision} {group}", weight, lambda: pack_weight(weight, precision, group))
    implicit_forward(x, weight, bias, y, windows, group, precision=precision, relu=relu, packed_weight=packed,
                     packed_x=packed_x, packed_y=packed_y, plan=Plan(int(tile), int(splits)))


def _explicit(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], group: int, relu: bool) -> None:
    """Convolve by columns."""
    xp = module_of(x)
    images, pixels = len(x), math.prod(y.shape[2:])
    operand = operand_type(x)
    kernel = weight.reshape(group, weight.shape[0] // group, -1)
    if operand != x.dtype:
        kernel = half_weight(weight).reshape(kernel.shape)
    out = y.reshape(images, group, kernel.shape[1], pixels)
    rows = x.shape[1] * taps_of(windows)
    if is_pointwise(windows):
        columns = x.reshape(images, group, -1, pixels)
        _multiply(kernel, to_half(columns) if operand != x.dtype else columns, out)
    else:
        for n, m, a, b in _blocks(images, pixels, rows * operand.itemsize):
            columns = xp.empty((m - n, rows, b - a), operand)
            fill_columns(x[n:m], columns, a, y.shape[3], geo_of(windows))
            _multiply(kernel, columns.reshape(m - n, group, rows // group, b - a), out[n:m, :, :, a:b])
    add_bias(y, bias, relu)


def conv_transpose(dy: Any, weight: Any, bias: Any, x: Any, windows: Sequence[Window], group: int = 1) -> None:
    """Write the adjoint of `conv_forward` into x: the data gradient, or a Deconvolution's output."""
    if is_direct(weight, dy.shape[1], group):
        depthwise_transpose(dy, weight, bias, x, windows, group)
        return
    xp = module_of(x)
    images, pixels = len(x), math.prod(dy.shape[2:])
    operand = operand_type(x)
    kernel = weight.reshape(group, weight.shape[0] // group, -1)
    tops = dy.reshape(images, group, kernel.shape[1], pixels)
    if operand != x.dtype:
        kernel, tops = half_weight(weight).reshape(kernel.shape), to_half(tops)
    if is_pointwise(windows):
        _multiply(kernel, tops, x.reshape(images, group, -1, pixels), trans_a=True)
        add_bias(x, bias)
        return
    rows = x.shape[1] * taps_of(windows)
    for n, m, a, b in _blocks(images, pixels, rows * x.itemsize):
        columns = xp.empty((m - n, group, rows // group, b - a), x.dtype)
        _multiply(kernel, tops[n:m, :, :, a:b], columns, trans_a=True)
        add_columns(columns.reshape(m - n, rows, b - a), bias, x[n:m], a, dy.shape[2:], geo_of(windows))


def conv_weight_gradient(x: Any, dy: Any, dweight: Any, windows: Sequence[Window], group: int = 1) -> None:
    """Add the gradient of `conv_forward`'s weight to `dweight`; images are added up in order."""
    if is_direct(dweight, dy.shape[1], group):
        depthwise_weight_gradient(x, dy, dweight, windows, group)
        return
    xp = module_of(x)
    images, pixels = len(x), math.prod(dy.shape[2:])
    operand = operand_type(x)
    gradient = dweight.reshape(group, dweight.shape[0] // group, -1)
    tops = dy.reshape(images, group, gradient.shape[1], pixels)
    if operand != x.dtype:
        tops = to_half(tops)
    rows = x.shape[1] * taps_of(windows)
    pointwise = is_pointwise(windows)
    for n, m, a, b in _blocks(images, pixels, rows * operand.itemsize):
        if pointwise:
            columns = x.reshape(images, rows, pixels)[n:m, :, a:b]
            columns = to_half(columns) if operand != x.dtype else columns
        else:
            columns = xp.empty((m - n, rows, b - a), operand)
            fill_columns(x[n:m], columns, a, dy.shape[3], geo_of(windows))
        for i in range(m - n):
            gemm(tops[n + i, :, :, a:b], columns[i].reshape(group, rows // group, b - a), gradient, trans_b=True,
                 add=True)


def conv_bias_gradient(dy: Any, dbias: Any) -> None:
    """Add to `dbias` (M,) the sum of `dy` (N, M, \\*out) over images and pixels."""
    dbias += dy.reshape(dy.shape[0], dy.shape[1], -1).sum(axis=2).sum(axis=0)


def add_bias(y: Any, bias: Any, relu: bool = False) -> None:
    """Add `bias` (M,) or None to `y` (N, M, ...), and set what is below 0 to 0 with `relu`; one pass, in place."""
    if bias is not None or relu:
        launch("bias", "bias_relu", y.size, (y, bias, y.size, y.shape[1], math.prod(y.shape[2:]), relu), real=y.dtype)


def _blocks(images: int, pixels: int, pixel_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut images and pixels into (image from, to, pixel from, to) of about `COLUMN_BYTES` of columns.

    Whole images where one fits; blocks of one image come in order, since col2im's later blocks add.
    """
    together = COLUMN_BYTES // max(1, pixels * pixel_bytes)
    if together:
        for n in range(0, images, together):
            yield n, min(images, n + together), 0, pixels
        return
    step = max(32, COLUMN_BYTES // pixel_bytes // 32 * 32)
    for n in range(images):
        for a in range(0, pixels, step):
            yield n, n + 1, a, min(pixels, a + step)


def _multiply(kernel: Any, columns: Any, out: Any, trans_a: bool = False) -> None:
    """Write ``out[n, g] = kernel[g] columns[n, g]`` for all images and groups."""
    if out.shape[1] == 1:
        gemm(kernel[0], columns[:, 0], out[:, 0], trans_a=trans_a)
        return
    for n in range(len(out)):
        gemm(kernel, columns[n], out[n], trans_a=trans_a)
