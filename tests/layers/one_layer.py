"""Nets of one or a few layers around given arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atrouscaffe import TEST, Net
from atrouscaffe.gradient_check import check_gradients, gradients

__all__ = ["check_gradients", "forward", "gradients", "small_net"]


def small_net(body: str, bottoms: Mapping[str, Any], *, dialect: str = "bvlc", phase: int = TEST,
              dtype: Any = np.float64, force: bool = True, **options: Any) -> Net:
    """Return a net that feeds `bottoms` to the layers in `body`; every input wants a gradient if `force`."""
    text = "force_backward: true\n" if force else ""
    for name, array in bottoms.items():
        dims = " ".join(f"dim: {n}" for n in np.shape(array))
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    net = Net(text + body, phase=phase, dialect=dialect, dtype=dtype, **options)
    for name, array in bottoms.items():
        net.blobs[name].data[...] = array
    return net


def forward(body: str, bottoms: Mapping[str, Any], top: str = "y", **options: Any) -> np.ndarray:
    """Return one blob of such a net after a forward pass."""
    net = small_net(body, bottoms, **options)
    net.forward()
    return net.blobs[top].data.copy()
