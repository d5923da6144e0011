"""How long a net's layers take, and what a net's outputs are on the mean (``caffe time``, ``caffe test``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.net import Net

__all__ = ["Timing", "mean_outputs", "time_layers"]


@dataclass(frozen=True)
class Timing:
    """Milliseconds, on the mean of the passes that were timed.

    Attributes
    ----------
    layers : list of (str, float, float)
        Name, forward, backward (0 where nothing is to be done).
    forward, backward : float
        Whole passes.
    total : float
        All passes together.
    """

    layers: list[tuple[str, float, float]]
    forward: float
    backward: float
    total: float


class _Stopwatch:
    """Adds up the time from the call before a layer to the call behind it."""

    def __init__(self, layers: int) -> None:
        self.ms = np.zeros(layers)
        self._began = 0.0

    def before(self, layer: int) -> None:
        self._began = time.perf_counter()

    def after(self, layer: int) -> None:
        self.ms[layer] += (time.perf_counter() - self._began) * 1e3


def _want(iterations: int) -> None:
    if iterations < 1:
        raise ArgumentError(f"iterations: expected at least 1, got {iterations}")


def time_layers(net: Net, iterations: int, say: Callable[[str], None] | None = None) -> Timing:
    """Time a net's layers forward and backward, after one pass of each to warm up.

    Parameters
    ----------
    net : Net
    iterations : int
    say : callable of str, optional
        Takes one line a pass, and the loss of the first.
    """
    _want(iterations)
    say = say or (lambda line: None)
    say("Performing Forward")
    net.forward()
    say(f"Initial loss: {net.loss:g}")
    say("Performing Backward")
    net.backward()
    count = len(net.layers)
    forward, backward = _Stopwatch(count), _Stopwatch(count)
    net.before_forward(forward.before)
    net.after_forward(forward.after)
    net.before_backward(backward.before)
    net.after_backward(backward.after)
    say("*** Benchmark begins ***")
    say(f"Testing for {iterations} iterations.")
    passes = np.zeros(2)
    for i in range(iterations):
        began = time.perf_counter()
        net.forward()
        middle = time.perf_counter()
        net.backward()
        ended = time.perf_counter()
        passes += (middle - began) * 1e3, (ended - middle) * 1e3
        say(f"Iteration: {i + 1} forward-backward time: {(ended - began) * 1e3:g} ms.")
    names = [node.spec.name for node in net.graph.nodes]
    layers = list(zip(names, (forward.ms / iterations).tolist(), (backward.ms / iterations).tolist()))
    return Timing(layers, float(passes[0]) / iterations, float(passes[1]) / iterations, float(passes.sum()))


def mean_outputs(net: Net, iterations: int,
                 say: Callable[[str], None] | None = None) -> tuple[float, dict[str, np.ndarray]]:
    """Run a net forward several times; return the mean loss and the mean of each output.

    Parameters
    ----------
    net : Net
    iterations : int
    say : callable of str, optional
        Takes one line for each number of each pass.
    """
    _want(iterations)
    loss = 0.0
    sums: dict[str, np.ndarray] = {}
    for i in range(iterations):
        for name, array in net.forward().items():
            values = array.astype(np.float64).ravel()
            sums[name] = sums[name] + values if name in sums else values
            if say is not None:
                for value in values[:1000]:
                    say(f"Batch {i}, {name} = {value:g}")
        loss += net.loss
    return loss / iterations, {name: values / iterations for name, values in sums.items()}
