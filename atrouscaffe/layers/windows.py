"""How convolution and pooling messages name their windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.geometry import Window
from atrouscaffe.layers.base import Layer, Reach, Shape

__all__ = ["conv_images", "conv_reach", "conv_spatial", "conv_windows", "pool_windows"]

MOST = 2**16
"""No kernel, stride, pad or hole of a real net is larger; hostile files are refused before any arithmetic."""


def _each(p: Any, word: str, rank: int, default: int | None) -> list[int]:
    """Return one number an axis from ``word`` (repeated) or ``word_h`` and ``word_w``."""
    plain = "kernel_size" if word == "kernel" else word
    given = tuple(getattr(p, plain))
    if word != "hole" and p.has(f"{word}_shape"):
        if given or p.has(f"{word}_h") or p.has(f"{word}_w"):
            raise LayerError(f"{word}_shape: expected no {plain} or {word}_h and {word}_w beside it")
        plain, given = f"{word}_shape", tuple(getattr(p, f"{word}_shape").dim)
    if p.has(f"{word}_h") or p.has(f"{word}_w"):
        if given or rank != 2:
            raise LayerError(f"{plain}: expected either {plain} or {word}_h and {word}_w (these for two spatial axes "
                             f"only), got {given or 'none'} beside {word}_h/{word}_w with {rank} spatial axes")
        return [_checked(getattr(p, f"{word}_h") or 0, f"{word}_h", word != "pad"),
                _checked(getattr(p, f"{word}_w") or 0, f"{word}_w", word != "pad")]
    if not given:
        if default is None:
            raise LayerError(f"{plain}: expected a value (kernel_size, or kernel_h and kernel_w), got none")
        return [default] * rank
    if len(given) not in (1, rank):
        raise LayerError(f"{plain}: expected 1 or {rank} values, one a spatial axis, got {given}")
    return [_checked(n, plain, word != "pad") for n in (given * rank if len(given) == 1 else given)]


def _checked(n: int, word: str, positive: bool) -> int:
    if n > MOST or n < (1 if positive else 0):
        raise LayerError(f"{word}: expected {1 if positive else 0} to {MOST}, got {n}")
    return n


def conv_windows(p: Any, rank: int) -> tuple[Window, ...]:
    """Return the windows of a ConvolutionParameter over `rank` spatial axes.

    Raises
    ------
    LayerError
    """
    if rank < 1:
        raise LayerError("expected at least one spatial axis behind the channels, got none")
    if tuple(p.dilation) and not p.hole:
        raise LayerError("dilation: expected the modern word hole; read the prototxt with formats.prototxt")
    sizes = zip(_each(p, "kernel", rank, None), _each(p, "stride", rank, 1), _each(p, "pad", rank, 0),
                _each(p, "hole", rank, 1))
    return tuple(Window(*size) for size in sizes)


def conv_spatial(layer: Layer, shape: Shape) -> tuple[int, tuple[int, ...]]:
    """Return (channel axis, spatial sizes) of a bottom of a convolution; ShapeError where it has no pixels."""
    axis = layer.axis(layer.p.axis, len(shape))
    if 0 in shape[axis + 1:]:
        raise ShapeError(f"bottom[0]: expected at least one pixel, got shape {tuple(shape)}")
    return axis, tuple(shape[axis + 1:])


def conv_images(layer: Layer, array: np.ndarray) -> np.ndarray:
    """View a blob as (N, channels, \\*spatial): the axes in front of a convolution's channels are one."""
    axis = conv_spatial(layer, array.shape)[0]
    return array.reshape(math.prod(array.shape[:axis]), *array.shape[axis:])


def conv_reach(windows: tuple[Window, ...]) -> tuple[Reach, Reach]:
    """Return the reach along (height, width), the last two spatial axes."""
    pair = (Window(1), *windows)[-2:]
    height, width = (Reach(w.extent, w.stride, w.pad) for w in pair)
    return height, width


def _one(p: Any, word: str, default: int | None) -> tuple[int, int]:
    plain = "kernel_size" if word == "kernel" else word
    sides = [p.has(f"{word}_h"), p.has(f"{word}_w")]
    if any(sides):
        if p.has(plain) or not all(sides):
            raise LayerError(f"{plain}: expected either {plain} or both {word}_h and {word}_w")
        height, width = getattr(p, f"{word}_h"), getattr(p, f"{word}_w")
    else:
        if default is None and not p.has(plain):
            raise LayerError(f"{plain}: expected a value (kernel_size, or kernel_h and kernel_w), got none")
        height = width = getattr(p, plain) if p.has(plain) else default
    return _checked(height, plain, word != "pad"), _checked(width, plain, word != "pad")


def pool_windows(p: Any, shape: Shape) -> tuple[Window, Window]:
    """Return the windows of a PoolingParameter over a bottom (N, C, H, W).

    Raises
    ------
    LayerError
    """
    if p.global_pooling:
        if any(p.has(word) for word in ("kernel_size", "kernel_h", "kernel_w")):
            raise LayerError("kernel_size: expected none with global_pooling, whose kernel is the image")
        kernel: tuple[int, int] = (shape[2], shape[3])
        pad, stride = _one(p, "pad", 0), _one(p, "stride", 1)
        if pad != (0, 0) or stride != (1, 1):
            raise LayerError(f"global_pooling: expected pad 0 and stride 1, got pad {pad} and stride {stride}")
    else:
        kernel, pad, stride = _one(p, "kernel", None), _one(p, "pad", 0), _one(p, "stride", 1)
    if p.pool == "STOCHASTIC" and pad != (0, 0):
        raise LayerError(f"pad: expected 0 with STOCHASTIC pooling, got {pad}")
    for k, q in zip(kernel, pad):
        if q >= k:
            raise LayerError(f"pad: expected less than the kernel ({k}), got {q}")
    return Window(kernel[0], stride[0], pad[0]), Window(kernel[1], stride[1], pad[1])
