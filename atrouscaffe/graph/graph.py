"""Graph: layers in order, checked, with their values, shapes and the way of the gradients.

A blob name may stand for several *values*, one after another, when layers work in place: the graph
tells them apart, and says which of them share storage. No arrays are made here.

Source: ``Net::Init``, ``InsertSplits`` and ``FilterNet`` of BVLC Caffe's ``net.cpp`` say what a
Caffe user expects; splits are not inserted, a value knows its readers instead.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from atrouscaffe.data.paths import PathGuard
from atrouscaffe.errors import GraphError, LayerError, ShapeError, blame, nearest
from atrouscaffe.formats.segnet import is_segnet
from atrouscaffe.graph.labels import check_label_maps
from atrouscaffe.layers.base import Blueprint, Env, Layer, Shape, make_layer
from atrouscaffe.spec import LayerSpec, NetSpec, Phase, StateRule

__all__ = ["Graph", "Node", "Value", "included"]


@dataclass
class Value:
    """What one layer writes under one name.

    Attributes
    ----------
    name : str
        Blob name.
    storage : int
        Values with the same number share memory (in-place chains).
    producer : (int, int)
        Node index and top index.
    readers : list of (int, int)
        Node index and bottom index, in order.
    shape : tuple of int
    """

    name: str
    storage: int
    producer: tuple[int, int]
    readers: list[tuple[int, int]] = field(default_factory=list)
    shape: Shape = ()


@dataclass
class Node:
    """One layer in its place: indices into `Graph.values`, and what backward has to do.

    ``propagate[i]`` says that bottom i needs its gradient, ``param_propagate[i]`` that parameter i
    does, ``backward`` that the layer takes part in a backward pass at all.
    """

    index: int
    spec: LayerSpec
    layer: Layer
    bottoms: tuple[int, ...] = ()
    tops: tuple[int, ...] = ()
    blueprints: tuple[Blueprint, ...] = ()
    propagate: tuple[bool, ...] = ()
    param_propagate: tuple[bool, ...] = ()
    backward: bool = False


def _rule_holds(rule: StateRule, phase: Phase, level: int, stages: Iterable[str]) -> bool:
    """Whether a net's state meets an include or exclude rule (``Net::StateMeetsRule``)."""
    stages = set(stages)
    return not ((rule.phase is not None and rule.phase != phase)
                or (rule.min_level is not None and level < rule.min_level)
                or (rule.max_level is not None and level > rule.max_level)
                or not stages.issuperset(rule.stages) or stages.intersection(rule.not_stages))


def included(spec: LayerSpec, phase: Phase, level: int = 0, stages: Iterable[str] = ()) -> bool:
    """Tell whether a layer belongs to the net in this state.

    Raises
    ------
    GraphError
        The layer has both include and exclude rules.
    """
    if spec.include and spec.exclude:
        with blame(spec):
            raise GraphError("a layer has either include or exclude rules, not both")
    if spec.include:
        return any(_rule_holds(rule, phase, level, stages) for rule in spec.include)
    return not any(_rule_holds(rule, phase, level, stages) for rule in spec.exclude)


class Graph:
    """The layers of a net in one phase, wired and checked.

    Parameters
    ----------
    net : NetSpec
    phase : Phase
    level : int, optional
    stages : iterable of str, optional
    paths : PathGuard, optional
    input_shapes : mapping of str to shape, optional
        Shapes for the tops of Input layers instead of the file's.
    allow_python_layers : bool
        Run the code that Python layers name.
    skip_bad_images : bool
        Let data layers pass over images that cannot be read.

    Attributes
    ----------
    nodes : list of Node
    values : list of Value
        In the order in which they are written.
    inputs, outputs : list of str
        Tops of Input layers; blobs that nobody reads, sorted by name as in Caffe.

    Raises
    ------
    GraphError, LayerError, ShapeError
        With file, line and layer.
    """

    def __init__(self, net: NetSpec, phase: Phase, *, level: int | None = None, stages: Iterable[str] | None = None,
                 paths: PathGuard | None = None, input_shapes: Mapping[str, Shape] | None = None,
                 allow_python_layers: bool = False, skip_bad_images: bool = False) -> None:
        self.net = net
        self.phase = Phase(phase)
        self.level = net.level if level is None else level
        self.stages = tuple(net.stages if stages is None else stages)
        self.env = Env(self.phase, net.dialect, paths or PathGuard(net.path), allow_python_layers, skip_bad_images,
                       is_segnet(net))
        self.nodes: list[Node] = []
        self.values: list[Value] = []
        self._latest: dict[str, int] = {}
        self._storages = 0
        specs = [spec for spec in net.layers if included(spec, self.phase, self.level, self.stages)]
        if not specs:
            raise GraphError(f"the net has no layers in phase {self.phase.name}", net.path)
        for spec in specs:
            with blame(spec):
                self._append(spec, specs, dict(input_shapes or {}))
        self.inputs = [self.values[top].name for node in self.nodes if node.spec.type == "Input" for top in node.tops]
        self.outputs = sorted(name for name, value in self._latest.items() if not self.values[value].readers)
        check_label_maps(self, self.nodes)
        self._plan_backward()

    # -- wiring ---------------------------------------------------------------------------------

    def _append(self, spec: LayerSpec, specs: Sequence[LayerSpec], input_shapes: Mapping[str, Shape]) -> None:
        phase = self.phase if spec.phase is None else spec.phase
        layer = make_layer(spec, dataclasses.replace(self.env, phase=phase))
        node = Node(len(self.nodes), spec, layer)
        self._check_counts(layer, len(spec.bottoms), len(spec.tops))
        node.bottoms = tuple(self._bottom(node, i, name, specs) for i, name in enumerate(spec.bottoms))
        shapes = [self.values[i].shape for i in node.bottoms]
        tops = [tuple(int(n) for n in shape) for shape in layer.infer_shapes(shapes)]
        if spec.type == "Input":
            tops = [tuple(input_shapes.get(name, shape)) for name, shape in zip(spec.tops, tops)]
        names = list(spec.tops) + [""] * (len(tops) - len(spec.tops))
        if len(names) != len(tops):
            raise GraphError(f"expected {len(tops)} tops, got {len(names)} ({', '.join(names)})")
        if len(spec.loss_weights) > len(tops):
            raise GraphError(f"loss_weight: expected at most {len(tops)}, one for each top, got "
                             f"{len(spec.loss_weights)}")
        node.blueprints = tuple(layer.param_shapes(shapes))
        if len(spec.params) > len(node.blueprints):
            raise LayerError(f"expected at most {len(node.blueprints)} param entries (one a parameter blob), "
                             f"got {len(spec.params)}")
        node.tops = tuple(self._top(node, i, name, shape) for i, (name, shape) in enumerate(zip(names, tops)))
        for i, value in enumerate(node.bottoms):
            self.values[value].readers.append((node.index, i))
        self.nodes.append(node)

    @staticmethod
    def _check_counts(layer: Layer, bottoms: int, tops: int) -> None:
        for what, given, (low, high) in (("bottoms", bottoms, layer.bottoms), ("tops", tops, layer.tops)):
            if what == "tops" and layer.auto_tops:
                low = 0
            if given < low or (high is not None and given > high):
                wanted = str(low) if low == high else f"{low} or more" if high is None else f"{low} to {high}"
                raise GraphError(f"expected {wanted} {what}, got {given}")
        if layer.same_tops and bottoms != tops:
            raise GraphError(f"expected as many tops as bottoms, got {bottoms} bottoms and {tops} tops")

    def _bottom(self, node: Node, index: int, name: str, specs: Sequence[LayerSpec]) -> int:
        if name in self._latest:
            return self._latest[name]
        later = next((spec for spec in specs if name in spec.tops), None)
        if later is node.spec:
            raise GraphError(f"bottom {name!r} is the layer's own top: a cycle")
        if later is not None:
            raise GraphError(f"bottom {name!r} is written only later, by layer {later.name!r} ({later.source}): "
                             "a cycle, or layers out of order; a layer stands behind those that it reads")
        raise GraphError(f"unknown bottom {name!r}: no earlier layer writes it in phase {self.phase.name}"
                         f"{nearest(name, self._latest)}")

    def _top(self, node: Node, index: int, name: str, shape: Shape) -> int:
        bottoms = node.spec.bottoms
        storage = -1
        written = index < len(node.spec.tops)  # an empty name may stand in the file; tops made here have none
        if written and name in self._latest:
            earlier = self.values[self._latest[name]]
            if index >= len(bottoms) or bottoms[index] != name or earlier.producer[0] == node.index:
                owner = node.spec if earlier.producer[0] == node.index else self.nodes[earlier.producer[0]].spec
                raise GraphError(f"top {name!r} is written twice: layer {owner.name!r} ({owner.source}) "
                                 "writes it too; only an in-place layer may have the name of its bottom")
            if not node.layer.in_place:
                raise GraphError(f"type {node.spec.type} cannot work in place; give its top another name than {name!r}")
            if earlier.readers:
                reader = self.nodes[earlier.readers[0][0]].spec
                raise GraphError(f"works in place on {name!r}, which layer {reader.name!r} ({reader.source}) also "
                                 "reads; give the top another name")
            if shape != earlier.shape:
                raise ShapeError(f"top {name!r} in place: expected the bottom's shape {earlier.shape}, got {shape}")
            storage = earlier.storage
        if storage < 0:
            storage = self._storages
            self._storages += 1
        self.values.append(Value(name, storage, (node.index, index), shape=shape))
        if written:
            self._latest[name] = len(self.values) - 1
        return len(self.values) - 1

    # -- gradients ------------------------------------------------------------------------------

    def _plan_backward(self) -> None:
        """Decide which layers, bottoms and parameters take part in backward, as ``Net::Init`` does.

        One thing is more generous than the original: in a net without any loss, gradients start at
        every output, so that parameters can be differentiated without ``force_backward``.
        """
        force = self.net.force_backward
        needed = [False] * len(self.values)
        for node in self.nodes:
            wanted = node.spec.propagate_down
            if wanted and len(wanted) != len(node.bottoms):
                with blame(node.spec):
                    raise GraphError(f"propagate_down: expected {len(node.bottoms)} entries or none, got {len(wanted)}")
            node.param_propagate = tuple(blueprint.learned and (force or node.spec.param(i).lr_mult != 0)
                                         for i, blueprint in enumerate(node.blueprints))
            propagate = []
            for i, value in enumerate(node.bottoms):
                allowed = node.layer.has_backward and node.layer.allows_gradient(i)
                propagate.append(allowed and (force or (wanted[i] if wanted else needed[value])))
            node.propagate = tuple(propagate)
            node.backward = any(node.param_propagate) or any(node.propagate)
            for top in node.tops:
                needed[top] = node.backward
        self._cut_backward()

    def _cut_backward(self) -> None:
        """Leave out layers above which there is no loss."""
        losses = any(node.layer.loss_weight(i) for node in self.nodes for i in range(len(node.tops)))
        everything = self.net.force_backward or not losses
        reached = [everything] * len(self.values)
        for node in reversed(self.nodes):
            contributes = any(reached[top] or node.layer.loss_weight(i) for i, top in enumerate(node.tops))
            contributes |= everything and not node.tops  # Silence clears the gradient of what it swallows
            if not contributes:
                node.backward = False
                node.propagate = (False,) * len(node.bottoms)
                node.param_propagate = (False,) * len(node.blueprints)
            for i, value in enumerate(node.bottoms):
                reached[value] = reached[value] or (node.backward and node.propagate[i])

    # -- shapes ---------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape:
        """Return the shape of the blob that last bears this name."""
        return self.values[self._latest[name]].shape

    def latest(self, name: str) -> int:
        """Return the index of the value that last bears this name; KeyError if there is none."""
        return self._latest[name]

    def repeated_names(self) -> dict[str, int]:
        """Return the names that several layers have, each with how many; layers without a name are left out."""
        counts = Counter(node.spec.name for node in self.nodes if node.spec.name)
        return {name: count for name, count in counts.items() if count > 1}

    def keys(self) -> list[str]:
        """Return a key for each layer that no other has: its name, with a number from the second of a name on."""
        names, counts = {node.spec.name for node in self.nodes}, Counter[str]()
        keys = []
        for node in self.nodes:
            name = node.spec.name
            key = name
            while name in counts and (key == name or key in names):
                counts[name] += 1
                key = f"{name} ({counts[name]})"
            counts.setdefault(name, 1)
            keys.append(key)
        return keys

    def parameter_count(self) -> int:
        """Return how many numbers the layers learn or keep, blobs shared by name counted once."""
        count, names = 0, set()
        for node in self.nodes:
            for i, blueprint in enumerate(node.blueprints):
                name = node.spec.param(i).name
                if not name or name not in names:
                    count += _product(blueprint.shape)
                names.add(name)
        return count


def _product(shape: Shape) -> int:
    product = 1
    for n in shape:
        product *= n
    return product
