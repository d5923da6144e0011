"""RecordedPass: a net's forward pass as one CUDA graph, and whether it still fits the net."""

from __future__ import annotations

from atrouscaffe.errors import DeviceError, GraphError
from atrouscaffe.execution import Execution
from atrouscaffe.runtime.blob import moves
from atrouscaffe.runtime.cuda import Recording

__all__ = ["RecordedPass"]


class RecordedPass:
    """A forward pass recorded as a CUDA graph; see `Net.record`.

    Parameters
    ----------
    execution : Execution

    Raises
    ------
    DeviceError
        The net is on the CPU, or the pass cannot be recorded.
    """

    def __init__(self, execution: Execution) -> None:
        if execution.backend.name == "cpu":
            raise DeviceError("record: expected a net on a CUDA device, this one is on the CPU")
        self._execution = execution
        execution.push()  # else parameters would change during the pass, and what was derived from them be out of date
        last = len(execution.graph.nodes) - 1
        self._recording = Recording(execution.backend, lambda: execution.forward(0, last))
        self._places, self._moves = self._now(), moves()
        contexts = execution.contexts if execution.keep is None else []
        self._saved = [(ctx.saved, dict(ctx.saved)) for ctx in contexts]
        for ctx in contexts:
            ctx.saved.clear()  # recording computed nothing yet of what it left there

    def _now(self) -> list[tuple[int, tuple[int, ...]]]:
        """Say where all arrays lie."""
        return [(array.data.ptr, array.shape) for array in self._execution.buffers()]

    @property
    def valid(self) -> bool:
        """Whether the pass still fits the net: no shape, no memory and no parameter has changed since."""
        self._execution.push()
        if self._moves != moves():  # some blob's memory moved, perhaps another net's
            if self._now() != self._places:
                return False
            self._moves = moves()
        return self._recording.epoch == self._execution.backend.epoch

    def replay(self) -> None:
        """Start the pass; the inputs are what their blobs hold now. Outputs are there when the device is done.

        Raises
        ------
        GraphError
            The net has changed since: record it again.
        """
        if not self.valid:
            raise GraphError("the recorded pass no longer fits the net: a shape or a parameter has changed since; "
                             "record it again", self._execution.graph.net.path)
        self._recording.replay()
        for saved, recorded in self._saved:
            saved.clear()
            saved.update(recorded)
