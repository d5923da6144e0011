"""Net: pycaffe's face over a graph, a backend and a memory plan.

Source for names and behaviour: ``pycaffe.py``, ``_caffe.cpp`` and ``net.cpp`` of BVLC Caffe.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from atrouscaffe import rows
from atrouscaffe.arguments import net_spec_from, sort_arguments, weight_paths
from atrouscaffe.data.paths import PathGuard
from atrouscaffe.errors import ArgumentError, GraphError, NameNotFoundError, ShapeError, WeightsError, blame, nearest
from atrouscaffe.execution import Execution, Learnable
from atrouscaffe.graph.graph import Graph, Node
from atrouscaffe.graph.memory import MemoryPlan
from atrouscaffe.layers.python import BlobVec, Python
from atrouscaffe.recorded import RecordedPass
from atrouscaffe.runtime.backend import get_backend
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import NetSpec, Phase
from atrouscaffe.views import LayerView, Named
from atrouscaffe.weights import LoadReport, copy_weights

if TYPE_CHECKING:
    from atrouscaffe.formats.weightsfile import WeightsFile
    from atrouscaffe.layers.memory_data import MemoryData

__all__ = ["LayerView", "Learnable", "Net"]


class Net:
    """A net that runs forward and backward.

    ``Net(prototxt, phase)``, ``Net(prototxt, weights, phase)`` and ``Net(prototxt, phase, level, stages,
    weights)`` are all understood, as in pycaffe. Without weights, fillers run.

    Parameters
    ----------
    prototxt : path, NetSpec, or text that contains ``{``
    *args
        `weights` and `phase`, or `phase`, `level`, `stages` and `weights`: pycaffe's orders.
    phase : Phase, optional
        `TRAIN` or `TEST` (the default).
    weights : path or sequence of path, optional
        Caffemodels (binary or HDF5), copied one after another; a string may name several, with commas.
    level : int, optional
    stages : sequence of str, optional
    variables : mapping of str to str, optional
        Fill ``${NAME}`` placeholders.
    dialect : {"v1", "v2", "bvlc"}, optional
        What layers that differ between the forks go by; by default what the text looks like.
    weights_dialect : {"v1", "v2", "bvlc"}, optional
        How a binary caffemodel is read; by default what it looks like.
    proto : path, optional
        The caffe.proto of the fork that wrote net and weights, by whose names and numbers they are read; needs
        ``pip install 'atrouscaffe[proto]'``.
    allow_missing : bool or "layers", optional
        Load what fits of `weights`, print the table to stderr and go on; ``"layers"`` forgives layers
        that the file lacks or has twice, as Caffe does, but no other shapes.
    keep : sequence of str, optional
        Keep only these blobs, the inputs and the outputs; others share memory and are gone after
        their last reader. Such a net has no backward.
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    precision : {"fp32", "tf32", "fp16"}, optional
        What operands of convolutions and inner products are rounded to on a CUDA device; sums and blobs stay
        float32.
    engine : {"winograd", "direct", "panels", "columns"}, optional
        The way of convolutions on the CPU, where it can do the work; by default the fastest for each layer.
    winograd : bool, optional
        False: no convolution by Winograd's transforms, whose rounding differs from that of plain sums.
    dtype : dtype, optional
        float32; float64 for checks.
    allow_paths : sequence of path, optional
        Folders, beside the working one and the prototxt's, in which files named by layers may lie.
    seed : int, optional
        For fillers, dropout and data layers; a fresh one where it is not given.
    input_shapes : mapping of str to shape, optional
        Instead of the shapes that the file gives its inputs.
    memory_budget : int, optional
        Bytes; see `atrouscaffe.graph.memory.plan`.
    allow_python_layers : bool, optional
        Run the code that layers of type Python name; only for nets that are trusted as programs are.
    skip_bad_images : bool, optional
        Let ImageData and ImageSegData take the next line of their list where an image or label map
        cannot be read; each is named on stderr once.

    Attributes
    ----------
    blobs : OrderedDict of str to Blob
        ``net.blobs[name].data`` and ``.diff`` are writable arrays.
    params : OrderedDict of str to BlobVec
        As in all dicts by layer, the last layer of a name that repeats is found.
    layers : list of LayerView
    layer_dict : OrderedDict of str to LayerView
    inputs, outputs : list of str
    top_names, bottom_names : OrderedDict of str to list of str
    blob_loss_weights : OrderedDict of str to float
    reports : list of LoadReport
        One for each weight file that was read.

    Raises
    ------
    AtrousCaffeError
        PrototxtError, GraphError, LayerError, ShapeError, WeightsError, BudgetError: with file, line, layer.
    """

    def __init__(self, prototxt: Any, *args: Any, phase: int | None = None, weights: Any = None,
                 level: int | None = None, stages: Sequence[str] | None = None,
                 variables: Mapping[str, str] | None = None, dialect: str | None = None,
                 weights_dialect: str | None = None, proto: str | Path | None = None,
                 allow_missing: bool | str = False, keep: Sequence[str] | None = None, device: str = "cpu",
                 precision: str = "fp32", engine: str | None = None, winograd: bool = True, dtype: Any = np.float32,
                 allow_paths: Sequence[str | Path] = (), seed: int | None = None,
                 input_shapes: Mapping[str, Sequence[int]] | None = None, memory_budget: int | None = None,
                 allow_python_layers: bool = False, skip_bad_images: bool = False) -> None:
        phase, level, stages, weights = sort_arguments(args, phase, level, stages, weights)
        self.spec = net_spec_from(prototxt, variables, dialect, proto)
        self.backend = get_backend(device, precision, engine, winograd)
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ArgumentError(f"dtype: expected float32 or float64, got {self.dtype}")
        shapes = {name: tuple(int(n) for n in shape) for name, shape in (input_shapes or {}).items()}
        self.graph = Graph(self.spec, phase, level=level, stages=stages,
                           paths=PathGuard(self.spec.path, allow_paths), input_shapes=shapes,
                           allow_python_layers=allow_python_layers, skip_bad_images=skip_bad_images)
        for name in shapes:
            if name not in self.graph.inputs:
                raise NameNotFoundError(f"input_shapes: the net has no input {name!r}; its inputs are "
                                        f"{', '.join(self.graph.inputs) or 'none'}", self.spec.path)
        self.seed: int = secrets.randbits(128) if seed is None else seed
        self._execution = Execution(self.graph, self.backend, self.dtype, keep=None if keep is None else tuple(keep),
                                    seed=self.seed, memory_budget=memory_budget)
        hint = "" if keep is None else "; this net keeps only inputs, outputs and what keep=[...] names"
        self.blobs: OrderedDict[str, Blob] = Named("blob", hint, self._execution.named_blobs())
        self.params: OrderedDict[str, BlobVec] = Named("layer with parameters", "", self._named_params())
        self.reports: list[LoadReport] = []
        for path in weight_paths(weights):
            named = str(path).endswith((".h5", ".hdf5"))  # blobs by name need no caffe.proto
            self.copy_from(path, allow_missing, weights_dialect, None if named else proto)

    # -- names ----------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The net's phase."""
        return self.graph.phase

    @property
    def name(self) -> str:
        """The net's name."""
        return self.spec.name

    @property
    def dialect(self) -> str:
        """The fork whose behaviour this net follows where forks differ."""
        return self.spec.dialect

    @property
    def inputs(self) -> list[str]:
        """Names of the tops of Input layers."""
        return list(self.graph.inputs)

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, sorted."""
        return list(self.graph.outputs)

    @property
    def layers(self) -> list[Any]:
        """Layers in order; of a Python layer the instance itself."""
        return [node.layer.instance if isinstance(node.layer, Python) else LayerView(node.layer, blobs)
                for node, blobs in zip(self.graph.nodes, self._execution.node_params)]

    @property
    def layer_dict(self) -> OrderedDict[str, Any]:
        """Layers by name."""
        return Named("layer", "", zip(self._layer_names, self.layers))

    @property
    def _layer_names(self) -> list[str]:
        return [node.spec.name for node in self.graph.nodes]

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """Names of each layer's tops."""
        return OrderedDict((n.spec.name, [self.graph.values[v].name for v in n.tops]) for n in self.graph.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """Names of each layer's bottoms."""
        return OrderedDict((n.spec.name, [self.graph.values[v].name for v in n.bottoms]) for n in self.graph.nodes)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Weight of each blob in the loss."""
        weights = OrderedDict((name, 0.0) for name in self.blobs)
        for node in self.graph.nodes:
            for i, value in enumerate(node.tops):
                if self.graph.values[value].name in weights:
                    weights[self.graph.values[value].name] = node.layer.loss_weight(i)
        return weights

    @property
    def learnable(self) -> list[Learnable]:
        """Parameter blobs as a solver updates them, in order."""
        return list(self._execution.learnable)

    def _index(self, name: str) -> int:
        for node in self.graph.nodes:
            if node.spec.name == name:
                return node.index
        raise NameNotFoundError(f"the net has no layer {name!r}{nearest(str(name), self._layer_names)}")

    # -- running --------------------------------------------------------------------------------

    def reshape(self) -> None:
        """Infer all shapes anew from the present shapes of the inputs.

        Raises
        ------
        ShapeError
            A layer does not accept them, or its parameters would change their shape.
        """
        self._execution.reshape()

    def _range(self, start: str | None, end: str | None) -> tuple[int, int]:
        first = 0 if start is None else self._index(start)
        last = len(self.graph.nodes) - 1 if end is None else self._index(end)
        return first, last

    def _fill(self, names: Sequence[str], given: Mapping[str, Any], what: str, gradient: bool) -> None:
        for name, array in given.items():
            if name not in names:
                raise ArgumentError(f"{what} {name!r}: expected one of {', '.join(names) or 'none'}")
            blob = self.blobs[name]
            array = np.asarray(array)
            if tuple(array.shape) != blob.shape:
                raise ShapeError(f"{what} {name!r}: expected shape {blob.shape}, got {array.shape}; reshape the blob "
                                 "first (net.blobs[name].reshape(...))")
            with self.backend.active():
                (blob.grad if gradient else blob.array)[...] = self.backend.asarray(array, self.dtype)

    def forward(self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                **inputs: Any) -> dict[str, np.ndarray]:
        """Run the net forward.

        Parameters
        ----------
        blobs : sequence of str, optional
            Blobs to return beside the outputs.
        start, end : str, optional
            First and last layer to run, both included; of layers with one name the first. Layers after `end` keep
            their shapes, even where an input's shape has changed.
        **inputs : array
            Values of input blobs, in their shapes. Others keep what was last written to them.

        Returns
        -------
        dict of str to ndarray
            Outputs of the net (with `end`: tops of that layer), and `blobs`; the blobs' own arrays.
        """
        if inputs and set(inputs) != set(self.inputs) and start is None:
            lacking = ", ".join(name for name in self.inputs if name not in inputs)
            unknown = ", ".join(name for name in inputs if name not in self.inputs)
            if unknown:
                raise ArgumentError(f"forward: the net has no input {unknown}; its inputs are {', '.join(self.inputs)}")
            if lacking:
                raise ArgumentError(f"forward: expected every input of the net, {lacking} is missing")
        self._fill(self.inputs, inputs, "input", False)
        first, last = self._range(start, end)
        self._execution.forward(first, last)
        names = list(self.outputs)
        if end is not None:
            names = [name for value in self.graph.nodes[last].tops if (name := self.graph.values[value].name)]
        return {name: self.blobs[name].data for name in dict.fromkeys(names + list(blobs or ()))}

    def run(self, start: str | None = None, end: str | None = None) -> None:
        """Run the net forward on what its blobs hold and leave the results there; see `forward`.

        On a CUDA device this returns before the work is done.
        """
        self._execution.forward(*self._range(start, end))

    def record(self) -> RecordedPass:
        """Record a forward pass as one CUDA graph, for the present shapes and parameters.

        ``replay()`` of what is returned runs it with what the input blobs hold by then, at the cost of one
        launch, and returns before the device is done; reading a blob's ``data`` waits for it. ``valid`` says
        whether shapes and parameters are still the same. Callbacks are not called then.

        Raises
        ------
        DeviceError
            The net is on the CPU, or a layer must wait for the host (labels that are checked, data layers) or draws
            from its random stream there (Dropout in phase TRAIN).
        """
        return RecordedPass(self._execution)

    def backward(self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                 **gradients: Any) -> dict[str, np.ndarray]:
        """Run the net backward, from the ``diff`` of its outputs; parameter gradients are added up.

        Parameters
        ----------
        diffs : sequence of str, optional
            Blobs whose gradients to return beside the inputs'.
        start, end : str, optional
            First (topmost) and last layer to run, both included.
        **gradients : array
            Gradients of output blobs. Others keep what was last written to them; a loss keeps its weight.

        Returns
        -------
        dict of str to ndarray
            Gradients of the inputs (with `end`: of that layer's bottoms), and `diffs`.

        Raises
        ------
        GraphError
            The net drops blobs (``keep=``).
        """
        if self._execution.keep is not None:
            raise GraphError("a net with keep=[...] drops the blobs that backward reads; make it without keep",
                             self.spec.path)
        self._fill(list(self.blobs), gradients, "gradient of", True)
        last = len(self.graph.nodes) - 1 if start is None else self._index(start)
        first = 0 if end is None else self._index(end)
        self._execution.backward(last, first)
        names = self.inputs if end is None else [self.graph.values[v].name for v in self.graph.nodes[first].bottoms]
        return {name: self.blobs[name].diff for name in dict.fromkeys(list(names) + list(diffs or ()))}

    @property
    def loss(self) -> float:
        """The weighted sum of the losses of the last forward pass."""
        return self._execution.loss()

    @property
    def memory(self) -> MemoryPlan:
        """What the net's blobs and parameters take."""
        return self._execution.plan

    def blob_of(self, value: int) -> Blob:
        """Return the blob that holds a value of the graph (`graph.values`), for who watches the layers of a pass."""
        return self._execution.blob(value)

    def watch(self, forward: Callable[[Node], None] | None = None,
              backward: Callable[[Node], None] | None = None) -> None:
        """Call these behind each layer of every pass from now on; without arguments, stop that.

        Parameters
        ----------
        forward, backward : callable of Node, optional
        """
        self._execution.after_forward, self._execution.after_backward = forward, backward

    def before_forward(self, run: Callable[[int], Any]) -> None:
        """Call `run` with each layer's number before it runs forward, from now on."""
        self._execution.callbacks["before_forward"].append(run)

    def after_forward(self, run: Callable[[int], Any]) -> None:
        """Call `run` with each layer's number behind its forward."""
        self._execution.callbacks["after_forward"].append(run)

    def before_backward(self, run: Callable[[int], Any]) -> None:
        """Call `run` with each layer's number before its turn in a backward pass."""
        self._execution.callbacks["before_backward"].append(run)

    def after_backward(self, run: Callable[[int], Any]) -> None:
        """Call `run` with each layer's number behind its turn in a backward pass."""
        self._execution.callbacks["after_backward"].append(run)

    def clear_param_diffs(self) -> None:
        """Set all parameter gradients to zero."""
        with self.backend.active():
            for blobs in self._execution.node_params:
                for blob in blobs:
                    if blob.has_grad:
                        blob.grad[...] = 0

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: Any) -> dict[str, np.ndarray]:
        """Run all rows of arrays longer than a batch; the last batch is filled up with zeros.

        Returns
        -------
        dict of str to ndarray
            Outputs and `blobs` for all rows, copies.
        """
        return rows.forward_all(self.forward, self._batch_size(inputs), blobs, inputs)

    def forward_backward_all(self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None,
                             **arrays: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run all rows forward and backward; `arrays` are values of inputs and gradients of outputs.

        Returns
        -------
        (dict, dict)
            Blobs and gradients for all rows, copies.
        """
        inputs = {name: array for name, array in arrays.items() if name in self.inputs}
        tops = {name: array for name, array in arrays.items() if name not in self.inputs}
        return rows.forward_backward_all(self.forward, self.backward, self._batch_size(arrays), blobs, diffs, inputs,
                                         tops)

    def _batch_size(self, names: Iterable[str]) -> int:
        """Rows of the first blob among `names`, else of the net's first blob."""
        return next((self.blobs[name].shape[0] for name in [*names, *self.blobs] if self.blobs[name].shape), 1)

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Give the rows of the MemoryData layer, which must be the net's first.

        Parameters
        ----------
        data : (N, channels, height, width) array
        labels : array of N numbers
        """
        layer = self.graph.nodes[0].layer
        if layer.type != "MemoryData":
            raise ArgumentError("set_input_arrays: expected MemoryData as the net's first layer, "
                                f"got {layer.name!r} ({layer.type})")
        with blame(layer.spec):
            cast("MemoryData", layer).set_arrays(data, labels)

    # -- weights --------------------------------------------------------------------------------

    def copy_from(self, path: str | Path, allow_missing: bool | str = False, dialect: str | None = None,
                  proto: str | Path | None = None) -> LoadReport:
        """Copy weights from a file into layers of the same name.

        Parameters
        ----------
        path : path
            ``.caffemodel`` or ``.caffemodel.h5``.
        allow_missing : bool or "layers"
            Load what fits, print the table to stderr, and go on; see `Net`.
        dialect : {"v1", "v2", "bvlc"}, optional
        proto : path, optional
            The caffe.proto of the fork that wrote the file.

        Raises
        ------
        WeightsError
            The file cannot be read, or does not fit; nothing was copied.
        """
        from atrouscaffe.formats.weights import open_weights

        return self._take(open_weights(path, dialect=dialect, proto=proto), allow_missing)

    def _take(self, file: WeightsFile, allow_missing: bool | str) -> LoadReport:
        """Copy weights from a file that was opened."""
        with self.backend.active():
            report = copy_weights(self.graph, self._execution.node_params, file, allow_missing=allow_missing)
        self.backend.parameters_changed()
        if not report.complete or report.repeated:
            print(report.table(), file=sys.stderr)
        self.reports.append(report)
        return report

    def share_with(self, other: Net) -> None:
        """Use the parameters of `other`'s layers of the same name (``Net::ShareTrainedLayersWith``).

        Raises
        ------
        ShapeError
            A layer's parameters have another shape.
        ArgumentError
            `other` lies on another device.
        """
        if self.backend.name != other.backend.name:
            raise ArgumentError(f"share_with: expected a net on device {self.backend.name!r}, got one on "
                                f"{other.backend.name!r}")
        given: dict[str, list[BlobVec]] = {}
        for name, blobs in other._named_params():
            given.setdefault(name, []).append(blobs)
        for name, mine in self._named_params():
            if not given.get(name):
                continue
            blobs = given[name].pop(0)  # layers of one name share in order
            if [b.shape for b in mine] != [b.shape for b in blobs]:
                raise ShapeError(f"layer {name!r}: expected parameters {[b.shape for b in mine]}, "
                                 f"got {[b.shape for b in blobs]}")
            for blob, theirs in zip(mine, blobs):
                blob.share_data(theirs)
        self.backend.shares_parameters(other.backend)

    def save(self, path: str | Path, diffs: bool = False) -> None:
        """Write net and weights: binary BVLC caffemodel, or HDF5 where the name ends with ``.h5``; atomic.

        With `diffs` the parameters' gradients stand beside them.
        """
        from atrouscaffe.formats.caffemodel import write_caffemodel

        if str(path).endswith((".h5", ".hdf5")):
            self.save_hdf5(path, diffs)
        else:
            blobs = self._execution.node_params
            write_caffemodel(path, self._as_run(), [[blob.host() for blob in mine] for mine in blobs],
                             diffs=[[blob.host_grad() for blob in mine] for mine in blobs] if diffs else None)

    def save_hdf5(self, path: str | Path, diffs: bool = False) -> None:
        """Write the weights as HDF5 in Caffe's layout, with `diffs` also the gradients; atomic.

        Raises
        ------
        WeightsError
            Two layers with parameters have one name: HDF5 has one group for a name.
        """
        from atrouscaffe.formats.hdf5 import write_hdf5

        named = self._named_params()
        twice = sorted(name for name, count in Counter(name for name, _ in named).items() if count > 1)
        if twice:
            raise WeightsError(f"expected layers with parameters to differ by name, since HDF5 keeps blobs by name; "
                               f"{', '.join(map(repr, twice))} is there more than once: write a .caffemodel", str(path))
        write_hdf5(path, {name: [blob.host() for blob in blobs] for name, blobs in named},
                   diffs={name: [blob.host_grad() for blob in blobs] for name, blobs in named} if diffs else None)

    def load_hdf5(self, path: str | Path, allow_missing: bool | str = False) -> LoadReport:
        """Copy weights from an HDF5 file, whatever its name; see `copy_from`."""
        from atrouscaffe.formats.hdf5 import read_hdf5

        return self._take(read_hdf5(path), allow_missing)

    def _as_run(self) -> NetSpec:
        """The spec with the layers of this phase only, as Caffe saves it."""
        return dataclasses.replace(self.spec, layers=tuple(node.spec for node in self.graph.nodes))

    def _named_params(self) -> list[tuple[str, BlobVec]]:
        """Return (name, parameters) of the layers that have some; a name may come again."""
        return [(node.spec.name, blobs) for node, blobs in zip(self.graph.nodes, self._execution.node_params) if blobs]

    # -- what a resumed run needs ---------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs: positions of data layers and random streams, in JSON's types."""
        return self._execution.state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._execution.set_state(state)

    def __repr__(self) -> str:
        count = sum(math.prod(blob.shape) for _, blobs in self._named_params() for blob in blobs)
        return f"<Net {self.name!r} {self.phase.name}: {len(self.graph.nodes)} layers, {count:,} parameters>"
