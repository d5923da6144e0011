"""How coordinates of one top map to another's, for cropping them into line (``caffe.coord_map``).

A map is (axis, scale, shift): position i of the first top is position ``scale * i + shift`` of the second,
along the axes from ``axis + 1`` on. None as the axis belongs to the identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.pycaffe.net_spec import Function, Top, layers

__all__ = ["PASS_THROUGH_LAYERS", "AxisMismatchException", "UndefinedMapException", "compose", "conv_params",
           "coord_map", "coord_map_from_to", "crop", "crop_params", "inverse"]

PASS_THROUGH_LAYERS = ["AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp",
                       "MVN", "Power", "ReLU", "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold"]

_LEGACY = frozenset(f"{what}_{side}" for what in ("pad", "kernel", "stride") for side in "hw")

Map = tuple[Any, Any, Any]


class UndefinedMapException(AtrousCaffeError):
    """A layer through which coordinates have no linear map."""


class AxisMismatchException(AtrousCaffeError):
    """Maps that begin at different axes."""


class UnconnectedError(AtrousCaffeError, RuntimeError):
    """Two tops without a common ancestor that spatial layers lead to."""


class CropError(AtrousCaffeError, AssertionError):
    """Tops that no crop brings into line."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return axis, stride, extent of the kernel with its holes, and padding of a layer with windows."""
    params = next((fn.params[name] for name in ("convolution_param", "pooling_param") if name in fn.params), fn.params)
    if _LEGACY & {*fn.params, *params}:
        raise CropError("cropping does not support legacy _h/_w params: give kernel_size, stride and pad as lists")
    if "kernel_size" not in params:
        raise UndefinedMapException(f"{fn.type_name}: no kernel_size, so its coordinates have no map")
    kernel, stride, pad, hole = (np.array(params.get(name, default), ndmin=1) for name, default in
                                 (("kernel_size", 1), ("stride", 1), ("pad", 0), ("dilation", 1)))
    return params.get("axis", 1), stride, (kernel - 1) * hole + 1, pad


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """Return first axis and offsets of a Crop layer."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> Map:
    """Return the map from a layer's top to its bottom.

    Raises
    ------
    UndefinedMapException
        The layer has none.
    """
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    raise UndefinedMapException(f"{fn.type_name}: coordinates have no map through it")


def compose(base_map: Map, next_map: Map) -> Map:
    """Return the map that does one after the other.

    Raises
    ------
    AxisMismatchException
        They begin at different axes.
    """
    (axis1, scale1, shift1), (axis2, scale2, shift2) = base_map, next_map
    if axis1 is not None and axis2 is not None and axis1 != axis2:
        raise AxisMismatchException(f"maps that begin at axes {axis1} and {axis2} do not compose")
    return axis2 if axis1 is None else axis1, scale1 * scale2, scale1 * shift2 + shift1


def inverse(coord_map: Map) -> Map:
    """Return the map back."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def _ancestors(top: Top) -> Iterator[tuple[Top, Map]]:
    """Yield every top that spatial layers lead back to, nearest first, and the map to it."""
    maps: dict[Top, Map] = {top: (None, 1, 0)}
    frontier = [top]
    while frontier:
        here = frontier.pop(0)
        yield here, maps[here]
        inputs = here.fn.inputs[:1] if here.fn.type_name == "Crop" else here.fn.inputs  # the second gives sizes only
        try:
            step = coord_map(here.fn) if inputs else (None, 1, 0)
        except UndefinedMapException:
            continue
        for below in inputs:
            if below not in maps:
                maps[below] = compose(maps[here], step)
                frontier.append(below)


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """Return the map from one top's coordinates to another's, through their nearest common ancestor.

    Returns
    -------
    (axis, scale, shift)

    Raises
    ------
    RuntimeError
        Spatial layers do not connect them.
    AxisMismatchException
        Layers on the way begin at different axes.
    """
    from_maps = dict(_ancestors(top_from))
    for top, to_map in _ancestors(top_to):
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise UnconnectedError("Could not compute map between tops; are they connected by spatial layers?")


def crop(top_from: Top, top_to: Top) -> Top:
    """Return a Crop layer's top that brings `top_from` into line with `top_to`.

    Raises
    ------
    AssertionError
        The scales differ, or the offset is negative or not whole.
    """
    axis, scale, shift = (x if i == 0 else np.atleast_1d(x) for i, x in enumerate(coord_map_from_to(top_from, top_to)))
    if not (scale == 1).all():
        raise CropError(f"scale mismatch on crop (a = {scale})")
    if not (shift <= 0).all():
        raise CropError(f"cannot crop negative offset (b = {shift})")
    if not (np.round(shift) == shift).all():
        raise CropError(f"cannot crop noninteger offset (b = {shift})")
    first = 2 if axis is None else axis + 1
    return layers.Crop(top_from, top_to, crop_param={"axis": first, "offset": [int(n) for n in -np.round(shift)]})
