"""Which layers can run as one: a convolution and the ReLU behind it.

Found from the graph alone. A net that keeps only some blobs runs the pair as one pass over the
output; elsewhere every layer runs by itself, so that each blob holds what its layer wrote.
"""

from __future__ import annotations

from atrouscaffe.graph.graph import Graph

__all__ = ["folded_relus"]


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
        if node.spec.type != "Convolution" or len(node.tops) != 1:
            continue
        value = graph.values[node.tops[0]]
        if len(value.readers) != 1 or node.layer.loss_weight(0):
            continue
        reader = graph.nodes[value.readers[0][0]]
        if (reader.spec.type == "ReLU" and reader.layer.p.negative_slope == 0 and reader.tops
                and graph.values[reader.tops[0]].storage == value.storage):
            found[node.index] = reader.index
    return found
