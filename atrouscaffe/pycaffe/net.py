"""Net and the solvers under pycaffe's rules, and Timer.

A script is code already, so these run Python layers, and files named in a prototxt may lie anywhere.
Weights load as in Caffe: layers that the file lacks keep their fillers (a table on standard error says
which), blobs of another shape are an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import atrouscaffe.net
from atrouscaffe.errors import ArgumentError, DeviceError, ShapeError
from atrouscaffe.pipeline import glog
from atrouscaffe.pycaffe import mode
from atrouscaffe.pycaffe.errors import errors_also
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.solver import solver as engine
from atrouscaffe.solver.spec import read_spec
from atrouscaffe.weights import LoadReport

__all__ = ["NCCL", "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "Net", "RMSPropSolver",
           "SGDSolver", "Solver", "Timer", "get_solver"]

ANYWHERE = (Path(os.sep),)


class Net(atrouscaffe.net.Net):
    """``Net(network_file, phase, level=0, stages=None, weights=None)``, or the older ``Net(file, weights, phase)``.

    Beside what `atrouscaffe.net.Net` has stand the names that pycaffe's own Python code uses:
    ``_blobs``, ``_blob_loss_weights``, ``_inputs``, ``_outputs``, ``_bottom_ids``, ``_top_ids``,
    ``_forward``, ``_backward``.
    """

    def __init__(self, network_file: Any, *args: Any, seed: int | None = None, device: str | None = None,
                 **options: Any) -> None:
        options = {"allow_python_layers": True, "allow_paths": ANYWHERE, "allow_missing": "layers", **options}
        with errors_also(RuntimeError):
            super().__init__(network_file, *args, seed=mode.next_seed() if seed is None else seed,
                             device=device or mode.device(), **options)

    # -- passes ---------------------------------------------------------------------------------

    def _index(self, name: str) -> int:
        with errors_also(ValueError):
            return super()._index(name)

    def _fill(self, names: Sequence[str], given: Mapping[str, Any], what: str, gradient: bool) -> None:
        """As the engine, but what has the batch's length may be broadcast, as an assignment in NumPy would."""
        arrays = {}
        for name, array in given.items():
            array = np.asarray(array)
            shape = self.blobs[name].shape if name in names else array.shape
            if array.shape[:1] != shape[:1]:
                raise ShapeError(f"{'Diff' if gradient else 'Input'} is not batch sized: {what} {name!r}: expected "
                                 f"shape {shape}, got {array.shape}; reshape the blob first")
            arrays[name] = array if array.shape == shape else np.broadcast_to(array, shape)
        super()._fill(names, arrays, what, gradient)

    def forward(self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                **inputs: Any) -> dict[str, np.ndarray]:
        """Run the net forward; `inputs`, where there are any, are all of the net's."""
        if inputs and set(inputs) != set(self.inputs):
            raise ArgumentError("Input blob arguments do not match net inputs: expected "
                                f"{', '.join(self.inputs) or 'none'}, got {', '.join(inputs)}")
        return super().forward(blobs, start, end, **inputs)

    def backward(self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                 **gradients: Any) -> dict[str, np.ndarray]:
        """Run the net backward; `gradients`, where there are any, are those of all outputs."""
        if gradients and set(gradients) != set(self.outputs):
            raise ArgumentError("Top diff arguments do not match net outputs: expected "
                                f"{', '.join(self.outputs) or 'none'}, got {', '.join(gradients)}")
        return super().backward(diffs, start, end, **gradients)

    def _forward(self, start: int, end: int) -> float:
        """Run layers number `start` to `end`; return their loss."""
        self._execution.forward(start, end)
        return self.loss

    def _backward(self, start: int, end: int) -> None:
        """Run layers number `start` down to `end` backward."""
        self._execution.backward(start, end)

    # -- weights and rows -----------------------------------------------------------------------

    def copy_from(self, path: str | Path, allow_missing: bool | str = "layers", dialect: str | None = None,
                  proto: str | Path | None = None) -> LoadReport:
        """Copy weights into layers of the same name; layers that the file lacks keep theirs."""
        with errors_also(RuntimeError):
            return super().copy_from(path, allow_missing, dialect, proto)

    def load_hdf5(self, path: str | Path, allow_missing: bool | str = "layers") -> LoadReport:
        """Copy weights from an HDF5 file, whatever its name."""
        with errors_also(RuntimeError):
            return super().load_hdf5(path, allow_missing)

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give rows to the MemoryData layer: C-contiguous float32, labels (N,) or (N, 1, 1, 1).

        Raises
        ------
        RuntimeError
            The first layer is of another type, or the arrays do not fit.
        """
        if labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, np.newaxis, np.newaxis, np.newaxis])
        with errors_also(RuntimeError):
            for what, array in (("data array", data), ("labels array", labels)):
                if not array.flags.c_contiguous:
                    raise ArgumentError(f"{what} must be C contiguous")
                if array.ndim != 4:
                    raise ArgumentError(f"{what} must be 4-d, got shape {array.shape}")
                if array.dtype != np.float32:
                    raise ArgumentError(f"{what} must be float32, got {array.dtype}")
            if labels.shape[1:] != (1, 1, 1):
                raise ArgumentError(f"labels array must have shape (N,) or (N, 1, 1, 1), got {labels.shape}")
            super().set_input_arrays(data, labels)

    _set_input_arrays = set_input_arrays

    # -- lists by number ------------------------------------------------------------------------

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        return list(self.blob_loss_weights.values())

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    def _ids(self, values: Sequence[int]) -> list[int]:
        return [self._blob_names.index(self.graph.values[value].name) for value in values
                if self.graph.values[value].name in self.blobs]

    def _bottom_ids(self, layer: int) -> list[int]:
        return self._ids(self.graph.nodes[layer].bottoms)

    def _top_ids(self, layer: int) -> list[int]:
        return self._ids(self.graph.nodes[layer].tops)


class Solver(engine.Solver):
    """What pycaffe's solvers have in common: ``net``, ``test_nets``, ``iter``, ``step``, ``solve`` and the rest."""

    net_class = Net

    def __init__(self, source: Any, **options: Any) -> None:
        options = {"device": mode.device(), "allow_paths": ANYWHERE, "allow_missing": "layers",
                   "allow_python_layers": True, "log": glog.info, **options}
        with errors_also(RuntimeError):
            super().__init__(source, **options)

    def restore(self, path: str | Path) -> None:
        """Take back a snapshot."""
        with errors_also(RuntimeError):
            super().restore(path)


class SGDSolver(Solver, engine.SGDSolver):
    """Stochastic gradient descent with momentum, whatever type the file gives."""


class NesterovSolver(Solver, engine.NesterovSolver):
    """Nesterov's accelerated gradient."""


class AdaGradSolver(Solver, engine.AdaGradSolver):
    """AdaGrad."""


class RMSPropSolver(Solver, engine.RMSPropSolver):
    """RMSProp."""


class AdaDeltaSolver(Solver, engine.AdaDeltaSolver):
    """AdaDelta."""


class AdamSolver(Solver, engine.AdamSolver):
    """Adam."""


_SOLVERS = {cls.type: cls for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver,
                                      AdamSolver)}


def get_solver(filename: Any) -> Solver:
    """Return the solver that a file describes, of the class for its ``type``."""
    with errors_also(RuntimeError):
        spec = read_spec(filename)
    return _SOLVERS[spec.type](spec)


class Timer:
    """Wall-clock time from `start` to `stop`, or to now, in ``ms``."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._elapsed = 0.0

    def start(self) -> None:
        """Start, from 0."""
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Stop."""
        if self._began is not None:
            self._elapsed = time.perf_counter() - self._began
            self._began = None

    @property
    def ms(self) -> float:
        """Milliseconds; as in Caffe, reading them stops the timer."""
        self.stop()
        return self._elapsed * 1e3


class NCCL:
    """Several GPUs, one net: not there; `has_nccl` says so."""

    def __init__(self, solver: Solver, uid: bytes) -> None:
        raise DeviceError("NCCL: training on several GPUs is not there; use one solver")
