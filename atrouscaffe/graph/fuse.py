"""What a net that keeps only some of its blobs can do better than layer by layer.

A convolution takes over the ReLU behind it; and blobs that only convolutions and poolings touch hold
packed values on a device that has them (`atrouscaffe.ops.packed`). Found from the graph alone. In a net
that keeps its blobs every layer runs by itself, so that each blob holds what its layer wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from atrouscaffe.graph.graph import Graph, Node
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, IDENTITY, SUM
from atrouscaffe.ops.packed import convolves_packed, fits_packed
from atrouscaffe.spec import TEST

__all__ = ["Chain", "chains", "folded_relus", "packed_storages"]

ORDER = {AFFINE: 0, SUM: 1, ACTIVATION: 2}


@dataclass(frozen=True)
class Chain:
    """A layer and those after it whose work it does.

    Attributes
    ----------
    node : Node
    rest : list of (str, Node)
        In their order, each with its kind.
    base : int or None
        The value that a SUM adds.
    """

    node: Node
    rest: list[tuple[str, Node]]
    base: int | None = None

    @property
    def tops(self) -> tuple[int, ...]:
        """Values that are written."""
        return self.rest[-1][1].tops if self.rest else self.node.tops


def chains(graph: Graph, dropped: Collection[int]) -> list[Chain]:
    """Return the layers in the order in which they run on the CPU, each with those that it takes over.

    Parameters
    ----------
    graph : Graph
    dropped : collection of int
        Storages that nobody outside the net looks at.
    """
    found, taken = [], set()
    for node in graph.nodes:
        if node.index not in taken:
            found.append(_chain(graph, node, dropped))
            taken |= {other.index for _, other in found[-1].rest}
    return found


def _chain(graph: Graph, node: Node, dropped: Collection[int]) -> Chain:
    """Return a layer with those after it that it can take over."""
    takes = node.layer.takes([graph.values[v].shape for v in node.bottoms])
    rest: list[tuple[str, Node]] = []
    base, last = None, node
    while takes and len(last.tops) == 1 and not last.layer.loss_weight(0):
        value = graph.values[last.tops[0]]
        if len(value.readers) != 1:
            break
        following = graph.nodes[value.readers[0][0]]
        kind = following.layer.kind([graph.values[v].shape for v in following.bottoms])
        before = max((ORDER[k] for k, _ in rest if k != IDENTITY), default=0)
        if (kind not in takes or len(following.tops) != 1 or following.layer.loss_weight(0)
                or (kind != IDENTITY and (ORDER[kind] < before or (ORDER[kind] == before > 0)))):
            break
        if value.storage not in dropped and graph.values[following.tops[0]].storage != value.storage:
            break  # somebody reads what is in between
        if kind == SUM:
            (base,) = (v for v in following.bottoms if v != last.tops[0])
            if graph.values[base].producer[0] >= node.index:
                base = None
                break
        rest.append((kind, following))
        last = following
    return Chain(node, rest, base)

CONVOLUTIONS = frozenset(("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "NdConvolution"))
"""Types that can do the work of a ReLU after them."""


def folded_relus(graph: Graph) -> dict[int, int]:
    """Return the ReLU that each convolution can take over.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    dict of int to int
        Node of a Convolution with one top to the node of the ReLU that works in place on it, with slope 0.
    """
    found = {}
    for node in graph.nodes:
        if node.spec.type not in CONVOLUTIONS or len(node.tops) != 1:
            continue
        value = graph.values[node.tops[0]]
        if len(value.readers) != 1 or node.layer.loss_weight(0):
            continue
        reader = graph.nodes[value.readers[0][0]]
        if (reader.spec.type == "ReLU" and reader.layer.p.negative_slope == 0 and reader.tops
                and graph.values[reader.tops[0]].storage == value.storage):
            found[node.index] = reader.index
    return found


def packed_storages(graph: Graph, dropped: Collection[int], folds: Mapping[int, int]) -> set[int]:
    """Return the storages whose values can stay packed from the layer that writes them to those that read them.

    Parameters
    ----------
    graph : Graph
    dropped : collection of int
        Storages that nobody outside the net looks at.
    folds : mapping of int to int
        From `folded_relus`.
    """
    idle = set(folds.values()) | {node.index for node in graph.nodes if _does_nothing(graph, node)}
    packed = set(dropped)
    for value in graph.values:
        users = [value.producer[0], *(node for node, _ in value.readers)]
        if not fits_packed(value.shape) or not all(u in idle or _takes_packed(graph, graph.nodes[u]) for u in users):
            packed.discard(value.storage)
    while True:  # a pooling is packed on both sides or on none
        halves = {graph.values[end].storage for node in graph.nodes if node.spec.type == "Pooling"
                  for end in (*node.bottoms, *node.tops)
                  if len({graph.values[v].storage in packed for v in (*node.bottoms, *node.tops)}) > 1}
        if not halves & packed:
            return packed
        packed -= halves


def _does_nothing(graph: Graph, node: Node) -> bool:
    """Whether a layer leaves its blob alone: Dropout in place, when testing, unless it samples then, too."""
    return (node.spec.type == "Dropout" and graph.phase == TEST and not node.layer.p.sample_weights_test
            and graph.values[node.tops[0]].storage == graph.values[node.bottoms[0]].storage)


def _takes_packed(graph: Graph, node: Node) -> bool:
    """Whether a layer can read and write packed values."""
    if len(node.bottoms) != 1 or len(node.tops) != 1 or node.layer.loss_weight(0):
        return False
    if node.spec.type == "Pooling":
        return node.layer.p.pool in ("MAX", "AVE")
    return (node.spec.type == "Convolution" and node.layer.p.axis in (1, -3)
            and convolves_packed(node.blueprints[0].shape, node.layer.p.group))
