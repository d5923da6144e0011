"""What a solver tells: events for listeners, and Caffe's lines.

Source of the lines: ``Solver::Step`` and ``Solver::Test`` of BVLC Caffe.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from atrouscaffe.net import Net

__all__ = ["Event", "Lines", "net_outputs"]

MOST_VALUES = 1000


@dataclass(frozen=True)
class Event:
    """Something a solver did, for logs.

    Attributes
    ----------
    kind : {"iteration", "test", "snapshot", "restore"}
    iteration : int
        The iteration it belongs to; of a snapshot, how many were done.
    loss, smoothed_loss, rate, gradient_norm : float
        Of an iteration: mean over iter_size, mean over average_loss iterations, the policy's rate,
        and the norm of the gradient as accumulated. `loss` also of a test with test_compute_loss.
    outputs : dict of str to list of float
        Of a test: means of the test net's outputs. Of an iteration: the train net's outputs.
    net : int
        Index of the test net.
    path : str
        Of a snapshot or restore.
    """

    kind: str
    iteration: int
    loss: float = math.nan
    smoothed_loss: float = math.nan
    rate: float = math.nan
    gradient_norm: float = math.nan
    outputs: dict[str, list[float]] = field(default_factory=dict)
    net: int = 0
    path: str = ""


def net_outputs(net: Net) -> dict[str, list[float]]:
    """Return a net's outputs; only numbers and short vectors, as maps are no scores."""
    small = {name: net.blobs[name].host() for name in net.outputs if net.blobs[name].count <= MOST_VALUES}
    return {name: [float(x) for x in data.ravel()] for name, data in small.items()}


class Lines:
    """Writes Caffe's lines of iterations and tests.

    Parameters
    ----------
    log : callable of str
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log = log
        self.restart(0)

    def restart(self, iteration: int) -> None:
        """Begin to count iterations a second from here."""
        self._iteration, self._time = iteration, time.perf_counter()

    def iteration(self, iteration: int, display: int, smoothed_loss: float, rate: float, net: Net,
                  outputs: Mapping[str, Sequence[float]]) -> None:
        """Write the lines of an iteration that is displayed."""
        seconds = time.perf_counter() - self._time
        per_second = (iteration - self._iteration) / max(seconds, 1e-9)
        self.restart(iteration)
        self.log(f"Iteration {iteration} ({per_second:g} iter/s, {seconds:g}s/{display} iters), "
                 f"loss = {smoothed_loss:g}")
        self.outputs("Train", net, outputs)
        self.log(f"Iteration {iteration}, lr = {rate:g}")

    def outputs(self, what: str, net: Net, outputs: Mapping[str, Sequence[float]]) -> None:
        """Write one line for each number of a net's outputs, those of losses with their weight."""
        weights = net.blob_loss_weights
        values = [(name, value) for name, array in outputs.items() for value in array]
        for index, (name, value) in enumerate(values):
            weight = weights[name]
            loss = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            self.log(f"    {what} net output #{index}: {name} = {value:g}{loss}")
