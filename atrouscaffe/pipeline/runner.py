"""Executions of one net side by side: weights shared, activations of each running call its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from atrouscaffe.errors import BudgetError, DataError, DeviceError
from atrouscaffe.net import Net
from atrouscaffe.pipeline.deploy import Deploy
from atrouscaffe.recorded import RecordedPass
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.threads import num_threads
from atrouscaffe.spec import TEST

__all__ = ["Runner", "RunnerPool"]


class Runner:
    """A net with the size it is made for, and on a device its recorded pass; serves one call at a time.

    Parameters
    ----------
    net : Net
    deploy : Deploy
    size : (int, int)
        Height and width of its input.
    memory_budget : int
        Bytes.
    """

    def __init__(self, net: Net, deploy: Deploy, size: tuple[int, int], memory_budget: int) -> None:
        self.net, self.deploy, self.size, self.memory_budget = net, deploy, size, memory_budget
        self.recorded: RecordedPass | None = None
        self._ran: tuple[int, int] | None = None
        self._records = True

    @property
    def input(self) -> Any:
        """The array that holds the net's input, (1, C, height, width), on the net's device."""
        return self.net.blobs[self.deploy.input].array

    def sibling(self) -> Runner:
        """Return another runner over the same weights."""
        return Runner(self._made(self.deploy.size), self.deploy, self.deploy.size, self.memory_budget)

    def _made(self, size: tuple[int, int]) -> Net:
        backend = self.net.backend
        net = Net(self.deploy.spec_at(size), TEST, keep=[self.deploy.score], device=backend.name,
                  precision=backend.precision, engine=backend.engine, seed=0, allow_paths=self.deploy.paths.allowed,
                  input_shapes=self.deploy.input_shapes(size), memory_budget=self.memory_budget)
        net.share_with(self.net)
        return net

    def reshape(self, size: tuple[int, int]) -> None:
        """Make the net take images of `size`.

        Raises
        ------
        ArgumentError, BudgetError
            It cannot.
        """
        if size == self.size:
            return
        self.deploy.graph_at(size)  # raises where the net cannot be reshaped
        if self.deploy.spec_at(size).layers == self.net.spec.layers:
            for name, shape in self.deploy.input_shapes(size).items():
                self.net.blobs[name].reshape(*shape)
            self.net.reshape()
        else:
            self.net = self._made(size)
        self.size = size

    def run(self, image: tuple[int, int]) -> Any:
        """Run the net on what its input holds; return the scores (C, h, w), good until the next call.

        On a device a second pass at the same size is recorded where it can be.

        Parameters
        ----------
        image : (int, int)
            Height and width of the image in the input, for layers that ask for them.
        """
        for name in self.deploy.dims:
            self.net.blobs[name].data[...] = np.reshape(image, (1, 1, 1, 2))
        if self.net.backend.name == "cpu":
            self.net.forward()
        elif self.recorded is not None and self.recorded.valid:
            self.recorded.replay()
        elif self._ran == self.size and self._records:
            self.recorded = None  # whose memory the next may need
            try:
                self.recorded = self.net.record()
            except (DeviceError, BudgetError) as error:
                if isinstance(error, DeviceError) and "cannot be recorded" not in str(error):
                    raise
                # A layer looks at values, as DenseCRF at the image's size; or a recording's own memory is not there.
                self._records = False
                self.net.run()
            else:
                self.recorded.replay()
        else:
            self.net.run()
            self._ran = self.size
        scores = self.net.blobs[self.deploy.score].array[0]
        if not bool(module_of(scores).isfinite(scores.sum(dtype=np.float64))):
            raise DataError(self._first_not_finite(), self.net.spec.path)
        return scores

    def _first_not_finite(self) -> str:
        """Run once more, and say at which layer values come up that are no finite numbers."""
        found: list[str] = []

        def look(node: Any) -> None:
            for value in () if found else node.tops:
                blob = self.net.blob_of(value)
                wrong = int((~np.isfinite(blob.host())).sum())
                if wrong:
                    spoilt = [f"parameter {i}" for i, param in enumerate(self.net.layers[node.index].blobs)
                              if not np.isfinite(param.host()).all()]
                    reason = f"its {' and '.join(spoilt)} hold such values" if spoilt else "its parameters are finite"
                    name = self.net.graph.values[value].name
                    found.append(f"layer {node.spec.name!r} ({node.spec.type}), blob {name!r}: {wrong} of {blob.count} "
                                 f"values; {reason}")
                    return

        self.net.watch(look)
        try:
            self.net.forward()
        finally:
            self.net.watch()
        return ("the scores hold values that are not finite (NaN or infinity), first in "
                f"{found[0] if found else 'the last layer'}; the weights file is damaged, or training diverged")


class RunnerPool:
    """Runners over shared weights, made when needed: at most one a compute thread, within the memory budget.

    A device has one, since its stream runs one pass after another.

    Parameters
    ----------
    first : Runner
    """

    def __init__(self, first: Runner) -> None:
        self.first = first
        self._idle = [first]
        self._all = [first]
        self._changed = threading.Condition()
        self._holding = threading.local()

    @contextlib.contextmanager
    def take(self) -> Iterator[Runner]:
        """Hold a runner that no other thread uses meanwhile; waits for one where no more may be made.

        A thread that holds one already gets the same.
        """
        held = getattr(self._holding, "runner", None)
        if held is not None:
            yield held
            return
        runner = self._acquire()
        self._holding.runner = runner
        try:
            yield runner
        finally:
            self._holding.runner = None
            with self._changed:
                self._idle.append(runner)
                self._changed.notify()

    def _acquire(self) -> Runner:
        with self._changed:
            while not self._idle:
                if self._may_grow():
                    fresh = self.first.sibling()
                    self._all.append(fresh)
                    return fresh
                self._changed.wait()
            return self._idle.pop()

    def _may_grow(self) -> bool:
        """Whether one runner more, as large as the largest, stays within the budget."""
        if self.first.net.backend.name != "cpu" or len(self._all) >= num_threads():
            return False
        taken = [runner.net.memory.activation_bytes for runner in self._all]
        parameters = self.first.net.memory.parameter_bytes
        budget = self.first.memory_budget
        return not budget or parameters + sum(taken) + max(taken) <= budget
