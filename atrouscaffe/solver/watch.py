"""Looking into a net while it trains: ``debug_info`` lines, and where a number stopped being finite.

Source of the lines: ``ForwardDebugInfo``, ``BackwardDebugInfo`` and ``UpdateDebugInfo`` of BVLC Caffe's ``net.cpp``.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from atrouscaffe.graph.graph import Node
from atrouscaffe.net import Net

__all__ = ["DebugInfo", "gradient_origin", "value_origin"]


def _mean_abs(array: Any) -> float:
    return float(np.abs(array).sum(dtype=np.float64)) / array.size if array.size else 0.0


def _finite(array: Any) -> bool:
    return bool(np.isfinite(array).all())


class DebugInfo:
    """Writes Caffe's ``debug_info`` lines for one iteration.

    Parameters
    ----------
    net : Net
    log : callable of str
    """

    def __init__(self, net: Net, log: Callable[[str], None]) -> None:
        self.net, self.log = net, log

    def __enter__(self) -> DebugInfo:
        """Watch the net's passes."""
        self.net.watch(self._forward, self._backward)
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop watching."""
        self.net.watch()

    def _blobs(self, node: Node, values: tuple[int, ...]) -> list[tuple[str, Any]]:
        graph, execution = self.net.graph, self.net._execution
        return [(graph.values[value].name, execution.blob(value)) for value in values]

    def _param_name(self, node: Node, index: int) -> str:
        return node.spec.param(index).name or str(index)

    def _forward(self, node: Node) -> None:
        for name, blob in self._blobs(node, node.tops):
            self.log(f"    [Forward] Layer {node.spec.name}, top blob {name} data: {_mean_abs(blob.host()):g}")
        for i, blob in enumerate(self.net._execution.node_params[node.index]):
            self.log(f"    [Forward] Layer {node.spec.name}, param blob {self._param_name(node, i)} "
                     f"data: {_mean_abs(blob.host()):g}")

    def _backward(self, node: Node) -> None:
        for (name, blob), wanted in zip(self._blobs(node, node.bottoms), node.propagate):
            if wanted:
                self.log(f"    [Backward] Layer {node.spec.name}, bottom blob {name} "
                         f"diff: {_mean_abs(blob.host_grad()):g}")
        for i, blob in enumerate(self.net._execution.node_params[node.index]):
            if node.param_propagate[i]:
                self.log(f"    [Backward] Layer {node.spec.name}, param blob {self._param_name(node, i)} "
                         f"diff: {_mean_abs(blob.host_grad()):g}")

    def totals(self) -> None:
        """Write the norms of all parameters and their gradients."""
        sums = np.zeros(4)
        for entry in self.net.learnable:
            grad = entry.blob.host_grad() if entry.blob.has_grad else np.zeros(0)
            for i, array in enumerate((entry.blob.host(), grad)):
                sums[i] += np.abs(array).sum(dtype=np.float64)
                sums[2 + i] += np.square(array, dtype=np.float64).sum()
        one, two = sums[:2], np.sqrt(sums[2:])
        self.log(f"    [Backward] All net params (data, diff): L1 norm = ({one[0]:g}, {one[1]:g}); "
                 f"L2 norm = ({two[0]:g}, {two[1]:g})")

    def sizes(self) -> list[float]:
        """Return the mean absolute value of each parameter, for `update`."""
        return [_mean_abs(entry.blob.host()) for entry in self.net.learnable]

    def update(self, before: list[float]) -> None:
        """Write the size that each parameter had before an update, and the update's."""
        for entry, size in zip(self.net.learnable, before):
            diff = _mean_abs(entry.blob.host_grad()) if entry.blob.has_grad else 0.0
            self.log(f"    [Update] Layer {entry.layer}, param {entry.index} data: {size:g}; diff: {diff:g}")


def _place(node: Node) -> str:
    return f"layer {node.spec.name!r} ({node.spec.type}{f', {node.spec.source}' if node.spec.source else ''})"


def _repeat(net: Net) -> Iterator[Node]:
    """Run every layer that reads others forward again, on the data that is there; yield each layer behind its turn."""
    for node in net.graph.nodes:
        if node.bottoms:
            net._execution.forward(node.index, node.index)
        yield node


def value_origin(net: Net) -> str:
    """Return where the first non-finite number of a forward pass stands, in words.

    Parameters come first, then the layers run once more one after another on the same data; a
    Dropout layer then drops others than before.
    """
    execution = net._execution
    for node in net.graph.nodes:
        for i, blob in enumerate(execution.node_params[node.index]):
            if not _finite(blob.host()):
                return f"parameter {i} of {_place(node)}, since an earlier update"
    for node in _repeat(net):
        for value in node.tops:
            if not _finite(execution.blob(value).host()):
                return f"top {net.graph.values[value].name!r} of {_place(node)}"
    return "a pass that gave finite numbers when it was repeated (a Dropout layer drops others then)"


def gradient_origin(net: Net) -> str | None:
    """Return where the first non-finite number of a backward pass stands, in words; None if there is none.

    Both passes are run once more on the same data; parameter gradients are those of this pass afterwards.
    """
    found: list[str] = []

    def look(node: Node) -> None:
        execution = net._execution
        for i, blob in enumerate(execution.node_params[node.index]):
            if not found and node.param_propagate[i] and not _finite(blob.host_grad()):
                found.append(f"the gradient of parameter {i} of {_place(node)}")
        for value, wanted in zip(node.bottoms, node.propagate):
            if not found and wanted and not _finite(execution.blob(value).host_grad()):
                found.append(f"the gradient of bottom {net.graph.values[value].name!r} of {_place(node)}")

    net.clear_param_diffs()
    collections.deque(_repeat(net), maxlen=0)
    net.watch(backward=look)
    try:
        net.backward()
    finally:
        net.watch()
    return found[0] if found else None
