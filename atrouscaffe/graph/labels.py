"""Label maps that a net shrinks must keep whole class numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atrouscaffe.errors import ShapeError, blame

if TYPE_CHECKING:
    from atrouscaffe.graph.graph import Graph, Node

__all__ = ["check_label_maps"]

LABEL_READERS = ("SoftmaxWithLoss", "SegAccuracy", "Accuracy", "InfogainLoss", "MultinomialLogisticLoss")
"""Types whose second bottom is a map of class numbers."""


def check_label_maps(graph: Graph, nodes: Sequence[Node]) -> None:
    """Refuse an Interp that would mix the class numbers of neighbouring pixels of a label map.

    Interpolation with aligned corners falls on whole pixels only where the output's last pixel is a
    whole number of steps from its first: a map of 8k+1 pixels shrunk by 8. In other sizes the
    original mixes labels (of 255 and 0 come 31 and 64) and trains on them. Only `nodes` are looked at.

    Raises
    ------
    ShapeError
        With the sizes to use.
    """
    for node in nodes:
        if node.spec.type == "Interp" and _feeds_labels(graph, node):
            bottom, top = graph.values[node.bottoms[0]].shape, graph.values[node.tops[0]].shape
            cut = -node.layer.p.pad_beg - node.layer.p.pad_end
            for axis, what in ((2, "high"), (3, "wide")):
                steps, intervals = bottom[axis] - cut - 1, top[axis] - 1
                if intervals > 0 and steps % intervals:
                    with blame(node.spec):
                        raise ShapeError(_advice(node, bottom[axis], cut, what))


def _feeds_labels(graph: Graph, node: Node) -> bool:
    return any(graph.nodes[reader].spec.type in LABEL_READERS and index == 1
               for reader, index in graph.values[node.tops[0]].readers)


def _advice(node: Node, size: int, cut: int, what: str) -> str:
    p = node.layer.p
    text = (f"a label map of {size} pixels {what} does not fall on whole pixels here, so neighbouring labels would be "
            "mixed")
    if p.has("shrink_factor") and not p.has("zoom_factor"):
        below = (size - cut - 1) // p.shrink_factor * p.shrink_factor + 1 + cut
        return f"{text}; expected {below} or {below + p.shrink_factor} (crop_size of the data layer)"
    return f"{text}; shrink it by a whole number instead"
