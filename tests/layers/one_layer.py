"""Nets of one or a few layers around given arrays, and their gradients against central differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from atrouscaffe import TEST, Net


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


def gradients(net: Net, dy: Mapping[str, Any], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the gradients of inputs and of ``layer:index`` parameters for gradients `dy` at the outputs."""
    net.clear_param_diffs()
    net.forward()
    for name, array in dy.items():
        net.blobs[name].diff[...] = array
    net.backward()
    return {name: _blob(net, name).diff.copy() for name in names}


def _blob(net: Net, name: str) -> Any:
    layer, _, index = name.partition(":")
    return net.params[layer][int(index)] if index else net.blobs[name]


def check_gradients(net: Net, names: Iterable[str], outputs: Iterable[str] = ("y",), *, seed: int = 7,
                    step: float = 1e-5, tolerance: float = 1e-7) -> None:
    """Compare every gradient with central differences, relative to the largest of them.

    The net must be of float64 and give the same output for the same input. Losses keep their weight
    as gradient, other outputs get random ones.
    """
    rng = np.random.default_rng(seed)
    outputs = list(outputs)
    net.forward()
    dy = {name: net.blobs[name].diff.copy() if net.blobs[name].shape == () and net.blobs[name].diff
          else rng.standard_normal(net.blobs[name].shape) for name in outputs}

    def value() -> float:
        net.forward()
        return sum(float(np.sum(net.blobs[name].data * dy[name])) for name in outputs)

    found = gradients(net, dy, names)
    for name, grad in found.items():
        blob = _blob(net, name)
        expected = np.zeros(grad.shape)
        for place in np.ndindex(grad.shape):  # `data` anew each time: a device takes it over in a pass
            before = float(blob.data[place])
            blob.data[place] = before + step
            above = value()
            blob.data[place] = before - step
            below = value()
            blob.data[place] = before
            expected[place] = (above - below) / (2 * step)
        scale = max(float(np.abs(expected).max(initial=0)), 1e-3)
        np.testing.assert_allclose(grad, expected, rtol=0, atol=tolerance * scale, err_msg=name)
