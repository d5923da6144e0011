"""Gradients against central differences: how the layers of this package are checked, and those of plug-ins can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from atrouscaffe.net import Net

__all__ = ["check_gradients", "gradients"]


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

    Losses keep their weight as gradient, other outputs get random ones.

    Parameters
    ----------
    net : Net
        Of float64 (``dtype="float64"``), with ``force_backward``; it must give the same output for the same input.
    names : iterable of str
        Input blobs, and parameters as ``layer:index``.
    outputs : iterable of str
    seed : int
        For the gradients at the outputs.
    step : float
        Of the differences, to both sides.
    tolerance : float
        Largest difference, as a share of the largest gradient of the blob.

    Raises
    ------
    AssertionError
        A gradient differs; the message names the blob.

    Examples
    --------
    >>> import numpy as np
    >>> net = Net('''force_backward: true input: "x" input_shape { dim: 2 dim: 3 }
    ... layer { name: "t" type: "TanH" bottom: "x" top: "y" }''', dtype=np.float64)
    >>> net.blobs["x"].data[...] = np.linspace(-1, 1, 6).reshape(2, 3)
    >>> check_gradients(net, ["x"])
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
