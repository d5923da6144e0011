"""Execution: the arrays of a graph, and one pass over them forward or backward.

Source: ``Net::Init``, ``ForwardFromTo``, ``BackwardFromTo`` and ``AppendParam`` of BVLC Caffe's ``net.cpp``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.errors import AtrousCaffeError, NameNotFoundError, NetBusyError, ShapeError, blame
from atrouscaffe.fillers import fill
from atrouscaffe.graph.fuse import Chain, chains, folded_relus, packed_storages
from atrouscaffe.graph.graph import Graph, Node
from atrouscaffe.graph.labels import check_label_maps
from atrouscaffe.graph.memory import MemoryPlan, plan
from atrouscaffe.layers.base import Context
from atrouscaffe.layers.python import BlobVec
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, Tail
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.runtime.threads import no_denormals, serial_blas
from atrouscaffe.spec import TEST

__all__ = ["Execution", "Learnable"]

RESHAPED_BY_USERS = ("Input", "DummyData")
"""Types whose tops keep the shape that somebody gave the blob."""


@dataclass(frozen=True)
class Learnable:
    """One parameter blob as a solver sees it: shared blobs appear once (in v1 once a layer)."""

    blob: Blob
    layer: str
    index: int
    lr_mult: float
    decay_mult: float


@dataclass(frozen=True)
class _Step:
    """What runs at once: a layer, what it does for those after it, and the values that are written."""

    node: Node
    tail: Tail | None
    tops: tuple[int, ...]


class Execution:
    """Blobs, parameters and contexts of a graph on one device.

    Parameters
    ----------
    graph : Graph
    backend : CpuBackend or CudaBackend
    dtype : dtype
    keep : sequence of str or None
        Blobs to keep beside inputs and outputs; the others share one arena. None keeps all.
    seed : int
        For fillers and for each layer's random stream.
    memory_budget : int or None
        Bytes; see `atrouscaffe.graph.memory.plan`.

    Attributes
    ----------
    node_params : list of BlobVec
        Parameters by node.
    learnable : list of Learnable
    plan : MemoryPlan
    after_forward, after_backward : callable of Node, or None
        Called behind each layer of a pass, for whoever looks at blobs before others write over them.
    callbacks : dict of str to list of callable of int
        ``before_forward``, ``after_forward``, ``before_backward``, ``after_backward``: called with the
        layer's number, for every layer of a pass.
    """

    def __init__(self, graph: Graph, backend: Any, dtype: Any, *, keep: Sequence[str] | None, seed: int,
                 memory_budget: int | None) -> None:
        self.graph, self.backend, self.dtype = graph, backend, np.dtype(dtype)
        self.keep, self.memory_budget = keep, memory_budget
        for name in keep or ():
            if all(value.name != name for value in graph.values):
                raise NameNotFoundError(f"keep: the net has no blob {name!r}", graph.net.path)
        self._storage: list[Blob] = []
        self.node_params: list[BlobVec] = []
        self._arena: Any = None
        self._fuses = (keep is not None and graph.phase == TEST and backend.xp is np and self.dtype == np.float32)
        self.plan = self._plan()
        self.contexts = [Context(backend, node.layer.env.phase,
                                 np.random.default_rng(np.random.SeedSequence([abs(seed), node.index])))
                         for node in graph.nodes]
        for ctx in self.contexts:
            ctx.keeps = keep is None
        self._folds = {} if keep is None or self._fuses else folded_relus(graph)
        packs = backend.packs and self.dtype == np.float32
        self._packed = packed_storages(graph, set(self.plan.offsets), self._folds) if packs else set()
        self._turn = threading.RLock()
        self.after_forward: Callable[[Node], None] | None = None
        self.after_backward: Callable[[Node], None] | None = None
        self.callbacks: dict[str, list[Callable[[int], Any]]] = {
            "before_forward": [], "after_forward": [], "before_backward": [], "after_backward": []}
        self._scratch: list[Blob] = []
        self._shaped = len(graph.nodes)  # layers from here on have not followed the last change of an input's shape
        with backend.active():
            self._make_blobs()
            self._make_params()
        self._steps = self._make_steps(chains(graph, self.plan.offsets)) if self._fuses else []

    # -- making ---------------------------------------------------------------------------------

    def _plan(self) -> MemoryPlan:
        """Plan the blobs' memory; where nobody named a budget, within what the device has free or this net holds."""
        budget = self.memory_budget
        if budget is None:
            free = self.backend.memory_budget()
            budget = None if free is None else free + self._held_bytes()
        result = plan(self.graph, keep=self.keep, itemsize=self.dtype.itemsize, budget=budget,
                      share=self._fuses)
        self.backend.planned_bytes = result.peak_bytes
        return result

    def _held_bytes(self) -> int:
        """Return how much of what is planned is taken already."""
        own = [blob for storage, blob in enumerate(self._storage) if storage not in self.plan.offsets]
        memories = {blob.memory: blob.held_bytes for blobs in (own, *self.node_params) for blob in blobs}
        return sum(memories.values()) + (0 if self._arena is None else self._arena.nbytes)

    def _make_blobs(self) -> None:
        count = 1 + max((value.storage for value in self.graph.values), default=-1)
        self._storage = [Blob((0,), self.backend, self.dtype) for _ in range(count)]
        for value in self.graph.values:
            self._storage[value.storage].reshape(*value.shape)
        self._lay_out()
        for node in self.graph.nodes:
            for i in range(len(node.tops)):
                self._set_loss_weight(node, i)

    def _lay_out(self) -> None:
        """Give the storages that are dropped early their places in one arena."""
        if self.plan.offsets:
            for storage in self.plan.offsets:
                self._storage[storage].release()
            self._arena = None  # the old one goes before the new one is taken
            self._arena = self.backend.zeros((self.plan.arena_bytes // self.dtype.itemsize,), self.dtype)
            for storage, offset in self.plan.offsets.items():
                blob, begin = self._storage[storage], offset // self.dtype.itemsize
                blob.place(self._arena[begin:begin + blob.count])

    def _set_loss_weight(self, node: Node, top: int) -> None:
        weight = node.layer.loss_weight(top)
        if weight:
            self.blob(node.tops[top]).grad[...] = weight

    def _make_params(self) -> None:
        owners: dict[str, tuple[Blob, Node]] = {}
        self.learnable: list[Learnable] = []
        for node, ctx in zip(self.graph.nodes, self.contexts):
            blobs = BlobVec()
            with blame(node.spec):
                for i, blueprint in enumerate(node.blueprints):
                    blob = Blob(blueprint.shape, self.backend, self.dtype, parameter=True)
                    param = node.spec.param(i)
                    owner = owners.get(param.name) if param.name else None
                    if owner is not None:
                        self._share(blob, i, node, *owner)
                    else:
                        blob.array[...] = self.backend.asarray(fill(blueprint, ctx.rng), self.dtype)
                        owners[param.name] = (blob, node)
                    if owner is None or self.graph.net.dialect == "v1":
                        learns = blueprint.learned  # statistics are in the list, for snapshots, but stand still
                        self.learnable.append(Learnable(blob, node.spec.name, i, param.lr_mult if learns else 0.0,
                                                        param.decay_mult if learns else 0.0))
                    blobs.append(blob)
                node.layer.bind(blobs)
            self.node_params.append(blobs)

    def _share(self, blob: Blob, index: int, node: Node, owner: Blob, owner_node: Node) -> None:
        """Let a parameter use the memory of an earlier one of the same name."""
        permissive = node.spec.param(index).share_mode == "PERMISSIVE"
        if blob.count != owner.count or (blob.shape != owner.shape and not permissive):
            raise ShapeError(f"parameter {index} shares {node.spec.param(index).name!r} with layer "
                             f"{owner_node.spec.name!r}: expected shape {owner.shape}, got {blob.shape}")
        blob.share_data(owner)
        if self.graph.net.dialect != "v1":  # the first fork shares values only; each layer has its own gradient
            blob.share_diff(owner)

    def _make_steps(self, found: Sequence[Chain]) -> list[_Step]:
        """Return what a whole pass runs, from `atrouscaffe.graph.fuse.chains`."""
        steps = []
        for chain in found:
            members = [(kind, (node.layer, self.node_params[node.index])) for kind, node in chain.rest]
            tail = Tail([member for kind, member in members if kind == AFFINE],
                        None if chain.base is None else self.blob(chain.base),
                        next((member for kind, member in members if kind == ACTIVATION), None))
            steps.append(_Step(chain.node, tail if members else None, chain.tops))
        return steps

    def push(self) -> None:
        """Copy to the device what users may have written into blobs and parameters."""
        for blob in (*self._storage, *(blob for blobs in self.node_params for blob in blobs)):
            blob.push()

    def buffers(self) -> list[Any]:
        """Return the arrays of all blobs and parameters on the device."""
        params = [blob.array for blobs in self.node_params for blob in blobs]
        return [blob.array for blob in self._storage] + params

    def blob(self, value: int) -> Blob:
        """Return the blob of a value of the graph."""
        return self._storage[self.graph.values[value].storage]

    def named_blobs(self) -> list[tuple[str, Blob]]:
        """Return (name, blob) of all blobs that are kept, in the order in which they are first written."""
        return list({value.name: self._storage[value.storage] for value in self.graph.values
                     if value.name and value.storage not in self.plan.offsets}.items())

    # -- shapes ---------------------------------------------------------------------------------

    def reshape(self, first: int = 0, last: int | None = None, fed: bool = False) -> None:
        """Infer shapes anew from node `first` to `last`, or to the end.

        `fed` says that node `first` has just written its tops in new shapes. Layers after `last` keep theirs until
        they run, as in Caffe, where each layer reshapes itself in its forward pass.

        Where it raises, the graph keeps its shapes, so that the next pass looks at the inputs again.

        Raises
        ------
        ShapeError
            A layer does not accept them, or its parameters would change their shape.
        BudgetError
        """
        values = self.graph.values
        before = [value.shape for value in values]
        nodes = self.graph.nodes[first:None if last is None else last + 1]
        try:
            for node in nodes:
                if node.spec.type in RESHAPED_BY_USERS or (fed and node.index == first):
                    tops = [self.blob(value).shape for value in node.tops]
                else:
                    tops = self._infer(node)
                for value, shape in zip(node.tops, tops):
                    values[value].shape = shape
            check_label_maps(self.graph, nodes)
            self.plan = self._plan()
        except AtrousCaffeError:
            for value, shape in zip(values, before):
                value.shape = shape
            raise
        with self.backend.active():
            self._reshape_blobs(before, nodes, fed)
        self._shaped = first + len(nodes)

    def _reshape_blobs(self, before: list[tuple[int, ...]], nodes: Sequence[Node], fed: bool) -> None:
        """Give the blobs of `nodes` the shapes of their values, which were `before`."""
        values = self.graph.values
        first = nodes[0].index
        alive = self._alive(first if fed else first - 1)
        for node in nodes:
            for i, value in enumerate(node.tops):
                self.blob(value).reshape(*values[value].shape)
                if values[value].shape != before[value]:
                    self._set_loss_weight(node, i)
            own = node.tops if not (fed and node.index == first) else ()
            if any(values[value].shape != before[value] for value in (*node.bottoms, *own)):
                self.contexts[node.index].saved.clear()
        self._lay_out()
        for storage, array in alive.items():
            self._storage[storage].array[...] = array
        if self._fuses:
            self._steps = self._make_steps(chains(self.graph, self.plan.offsets))

    def _alive(self, last: int) -> dict[int, Any]:
        """Return copies of what nodes up to `last` wrote into the arena for nodes behind it: a new one forgets it."""
        return {value.storage: self._storage[value.storage].array.copy() for value in self.graph.values
                if value.storage in self.plan.offsets and value.producer[0] <= last
                and any(reader > last for reader, _ in value.readers)}

    def _infer(self, node: Node) -> list[tuple[int, ...]]:
        with blame(node.spec):
            bottoms = [self.graph.values[value].shape for value in node.bottoms]
            tops = [tuple(int(n) for n in shape) for shape in node.layer.infer_shapes(bottoms)]
            for old, new in zip(node.blueprints, node.layer.param_shapes(bottoms)):
                if old.shape != new.shape:
                    raise ShapeError(f"{old.name}: expected {old.shape}, as the net was made with, but these inputs "
                                     f"need {new.shape}; make a new net for another input size")
        return tops

    def _check_inputs(self, last: int) -> None:
        """Reshape what runs up to node `last` where somebody reshaped an input since it last ran."""
        for node in self.graph.nodes[:last + 1]:
            if node.spec.type in RESHAPED_BY_USERS and any(
                    self.blob(value).shape != self.graph.values[value].shape for value in node.tops):
                self.reshape(0, last)
                return
        if self._shaped <= last:
            self.reshape(self._shaped, last)

    # -- passes ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads out: the blobs are the net's interface, and two passes would mix in them."""
        if not self._turn.acquire(blocking=False):
            raise NetBusyError("another thread is running a pass of this net, whose blobs the two would mix; give each "
                               "thread a net of its own (share_with shares the weights), or one Segmenter to all",
                               self.graph.net.path)
        try:
            yield
        finally:
            self._turn.release()

    def forward(self, first: int, last: int) -> None:
        """Run nodes `first` to `last`, both included.

        Raises
        ------
        NetBusyError
            Another thread is in a pass.
        """
        with self._alone():
            self._forward(first, last)

    def _forward(self, first: int, last: int) -> None:
        self._check_inputs(last)
        alone = (first, last) != (0, len(self.graph.nodes) - 1) or self.after_forward is not None or any(
            self.callbacks.values())  # somebody looks between the layers: each runs by itself
        folds, packed = ({}, set()) if alone else (self._folds, self._packed)
        folded = set(folds.values())
        steps = self._steps if self._fuses and not alone else [
            _Step(node, None, node.tops) for node in self.graph.nodes[first:last + 1] if node.index not in folded]
        with serial_blas(), self.backend.active(), no_denormals() if self._fuses else contextlib.nullcontext():
            for step in steps:
                node, ctx = step.node, self.contexts[step.node.index]
                ctx.relu, ctx.tail = node.index in folds, step.tail
                ctx.packed = self._packed_ends(node, packed)
                ctx.placed = () if self.plan.shared is None else self.plan.shared.placed(node)
                self._run(step, ctx)
                if any(self.blob(value).shape != self.graph.values[value].shape for value in step.tops):
                    self.reshape(node.index, last, fed=True)

    def _run(self, step: _Step, ctx: Context) -> None:
        """Run one layer, with those that it takes over, and call who waits for it."""
        node = step.node
        self._call("before_forward", node)
        with blame(node.spec), self.backend.errors():
            node.layer.forward(ctx, [self.blob(value) for value in node.bottoms],
                               [self.blob(value) for value in step.tops], self.node_params[node.index])
        if self.after_forward is not None:
            self.after_forward(node)
        self._call("after_forward", node)

    def _packed_ends(self, node: Node, packed: set[int]) -> tuple[bool, bool]:
        """Whether the first bottom and the first top of a layer are packed."""
        if not packed or not node.bottoms or not node.tops:
            return False, False
        values = self.graph.values
        return values[node.bottoms[0]].storage in packed, values[node.tops[0]].storage in packed

    def backward(self, last: int, first: int) -> None:
        """Run nodes `last` down to `first`, both included, from the gradients of their tops; raises as `forward`."""
        with self._alone():
            self._backward(last, first)

    def _backward(self, last: int, first: int) -> None:
        self._check_inputs(last)
        written: set[int] = set()
        nodes = self.graph.nodes[first:last + 1]
        with serial_blas(), self.backend.active():
            for node in nodes:
                for i, value in enumerate(node.tops):
                    if node.layer.loss_weight(i) and self.graph.values[value].readers:
                        self._set_loss_weight(node, i)  # what its readers add comes on top
                        written.add(value)
            for node in reversed(nodes):
                self._call("before_backward", node)
                if node.backward:
                    self._backward_node(node, written)
                self._call("after_backward", node)

    def _call(self, when: str, node: Node) -> None:
        for callback in self.callbacks[when]:
            callback(node.index)

    def _backward_node(self, node: Node, written: set[int]) -> None:
        """Run one layer backward; gradients of a blob with several readers are added up."""
        ctx = self.contexts[node.index]
        ctx.propagate, ctx.param_propagate = node.propagate, node.param_propagate
        bottoms, additions = [], []
        for i, value in enumerate(node.bottoms):
            blob = self.blob(value)
            if node.propagate[i]:
                if value in written:
                    additions.append((blob, self._scratch_for(len(additions), blob)))
                    blob = additions[-1][1]
                written.add(value)
            bottoms.append(blob)
        tops = [self.blob(value) for value in node.tops]
        with blame(node.spec), self.backend.errors():
            node.layer.backward(ctx, bottoms, tops, self.node_params[node.index])
        for blob, addition in additions:
            total = blob.grad
            total += addition.grad
        if self.after_backward is not None:
            self.after_backward(node)

    def _scratch_for(self, index: int, blob: Blob) -> Blob:
        """Return a blob with the values of `blob` and a gradient of its own."""
        while len(self._scratch) <= index:
            self._scratch.append(Blob((0,), self.backend, self.dtype))
        scratch = self._scratch[index]
        scratch.reshape(*blob.shape)
        scratch.share_data(blob)
        return scratch

    def loss(self) -> float:
        """Return the weighted sum of the losses of the last forward pass."""
        return sum(node.layer.loss_weight(i) * float(self.blob(value).host().sum(dtype=np.float64))
                   for node in self.graph.nodes for i, value in enumerate(node.tops) if node.layer.loss_weight(i))

    # -- what a resumed run needs ---------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return positions of data layers and random streams, in JSON's types."""
        return {key: {"state": dict(ctx.state), "rng": ctx.rng.bit_generator.state}
                for key, ctx in zip(self.graph.keys(), self.contexts)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned; layers that it does not name go on as they are."""
        for key, ctx in zip(self.graph.keys(), self.contexts):
            if key in state:
                ctx.state.clear()
                ctx.state.update(state[key]["state"])
                ctx.rng.bit_generator.state = state[key]["rng"]
