"""Two nets on one input, layer by layer: where they begin to differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.net import Net

__all__ = ["Difference", "compare", "round_weights"]


class Difference(NamedTuple):
    """One blob behind one layer, in both nets.

    Attributes
    ----------
    layer, type, blob : str
    shapes : (tuple, tuple)
    largest, mean : float
        Of the absolute differences; NaN where the shapes differ.
    scale : float
        Largest magnitude in the first net's blob.
    same : bool
        Equal within the tolerance.
    """

    layer: str
    type: str
    blob: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    largest: float
    mean: float
    scale: float
    same: bool

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest magnitude."""
        return self.largest / self.scale if self.scale else self.largest


def compare(first: Net, second: Net, *, rtol: float = 1e-4, atol: float = 1e-5) -> Iterator[Difference]:
    """Run both nets in step, from inputs that are set already, and yield each common blob's difference.

    Layers are matched by name, in the first net's order; a blob that is worked on in place is compared behind
    each of its layers.

    Parameters
    ----------
    first, second : Net
        Made without ``keep``, so that they have all their blobs.
    rtol, atol : float
        A blob is the same where the largest difference is at most ``atol + rtol * scale``.

    Raises
    ------
    ArgumentError
        The nets have no layer of a common name, or have them in another order.
    """
    places = {key: i for i, (key, node) in enumerate(zip(second.graph.keys(), second.graph.nodes)) if node.spec.name}
    keys = first.graph.keys()
    common = [node for node in first.graph.nodes if keys[node.index] in places and node.spec.type != "Split"]
    if not any(node.bottoms for node in common):
        raise ArgumentError("the nets have no layer of the same name; layers are matched by name")
    here = [places[keys[node.index]] for node in common]
    if sorted(here) != here:
        raise ArgumentError("the nets have layers of the same names in another order; they cannot run in step")
    done = [0, 0]
    for node, place in zip(common, here):
        ends = (node.index, place)
        for which, (net, end) in enumerate(zip((first, second), ends)):
            net._execution.forward(done[which], end)  # by number: a name may stand for several layers
            done[which] = end + 1
        if not node.bottoms:
            continue
        other = second.graph.nodes[ends[1]]
        for a, b in zip(node.tops, other.tops):
            yield _difference(node, first, first.graph.values[a].name, second, second.graph.values[b].name, rtol, atol)


def _difference(node: Any, first: Net, name: str, second: Net, other: str, rtol: float, atol: float) -> Difference:
    a = np.asarray(first.blobs[name].data, np.float64)
    b = np.asarray(second.blobs[other].data, np.float64)
    scale = float(np.abs(a).max(initial=0))
    if a.shape != b.shape:
        return Difference(node.spec.name, node.spec.type, name, (a.shape, b.shape), np.nan, np.nan, scale, False)
    gap = np.abs(a - b)
    largest = float(gap.max(initial=0))
    same = bool(largest <= atol + rtol * scale)  # False for NaN
    return Difference(node.spec.name, node.spec.type, name, (a.shape, b.shape), largest, float(gap.mean()), scale, same)


def round_weights(net: Net, dtype: str) -> None:
    """Round a net's weights to ``"float16"`` or ``"bfloat16"``, to see what a smaller format costs."""
    for blobs in net.params.values():
        for blob in blobs:
            if dtype == "float16":
                with np.errstate(over="ignore"):
                    blob.data[...] = blob.data.astype(np.float16)
            elif dtype == "bfloat16":
                bits = np.ascontiguousarray(blob.data, np.float32).view(np.uint32).astype(np.uint64)
                rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000  # to nearest, ties to even
                blob.data[...] = rounded.astype(np.uint32).view(np.float32)
            else:
                raise ArgumentError(f"precision: expected float16 or bfloat16, got {dtype!r}")
