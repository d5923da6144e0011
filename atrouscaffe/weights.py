"""Weights from files into the parameters of a net, with a table of what went where.

Source: ``Net::CopyTrainedLayersFrom`` and ``Blob::ShapeEquals`` of BVLC Caffe; ``strict_dim`` of the
first DeepLab fork.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from atrouscaffe.errors import WeightsError
from atrouscaffe.runtime.blob import Blob

if TYPE_CHECKING:
    from atrouscaffe.formats.weightsfile import BlobRecord, LayerWeights, WeightsFile
    from atrouscaffe.graph.graph import Graph, Node
    from atrouscaffe.spec import LayerSpec

__all__ = ["LoadReport", "copy_weights"]


@dataclass
class LoadReport:
    """What became of each layer with weights.

    Attributes
    ----------
    path : str
    loaded : list of str
        Layers that took their blobs from the file.
    missing : list of str
        Layers of the net that found nothing and keep what they had.
    mismatched : list of (str, str)
        Layer, and why its blobs did not fit.
    unused : list of str
        Layers of the file that the net does not have.
    duplicates : list of str
        Names that the file has more than once with blobs, and the net fewer times or more.
    repeated : list of str
        Names of layers that keep what they had because an earlier layer of the net has the same name.
    """

    path: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, str]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every layer found fitting weights, once."""
        return not (self.missing or self.mismatched or self.duplicates)

    def table(self) -> str:
        """Return the report as text, one line a layer that is not simply loaded."""
        lines = [f"{self.path}: {len(self.loaded)} layers loaded, {len(self.missing)} missing, "
                 f"{len(self.mismatched)} of another shape, {len(self.unused)} unused, "
                 f"{len(self.duplicates)} duplicate"]
        lines += [f"  missing     {name}: not in the file" for name in self.missing]
        lines += [f"  mismatched  {name}: {why}" for name, why in self.mismatched]
        lines += [f"  duplicate   {name}: more than once in the file" for name in self.duplicates]
        lines += [f"  repeated    {name}: an earlier layer of this name took the weights" for name in self.repeated]
        lines += [f"  unused      {name}: not in the net" for name in self.unused]
        return "\n".join(lines)


def _fits(blob: tuple[int, ...], stored: tuple[int, ...]) -> bool:
    """Whether a stored shape means the blob's: equal, or equal but for ones in front (legacy 4-D blobs)."""
    def core(shape: Sequence[int]) -> tuple[int, ...]:
        first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
        return tuple(shape[first:])

    return tuple(blob) == tuple(stored) or core(blob) == core(stored)


def _why_not(blobs: Sequence[Blob], stored: LayerWeights, spec: LayerSpec, shared: Set[str]) -> str:
    """Return why stored blobs do not fit a layer, or "" where they do; those in `shared` come from other layers."""
    lacking = set(range(len(blobs))).difference(stored.places)
    if max(stored.places) >= len(blobs) or any(spec.param(i).name not in shared for i in lacking):
        got = f" (number {', '.join(map(str, stored.places))})" if stored.has_gaps else ""
        return f"expected {len(blobs)} blobs, got {len(stored.blobs)}{got}"
    for i, record in zip(stored.places, stored.blobs):
        blob = blobs[i]
        if _fits(blob.shape, record.shape) or (not spec.strict_dim and blob.count == math.prod(record.shape)):
            continue
        return f"blob {i}: expected {blob.shape}, got {tuple(record.shape)}"
    return ""


def copy_weights(graph: Graph, params: Sequence[Sequence[Blob]], file: WeightsFile, *,
                 allow_missing: bool | str = False) -> LoadReport:
    """Copy the blobs of a weight file into parameters of the same layer name.

    Nothing is copied unless everything fits, or `allow_missing` is given: then layers without
    weights and blobs of another shape keep what they had, and of duplicates the last one counts.

    Parameters
    ----------
    graph : Graph
    params : sequence of sequence of Blob
        The parameters of each node.
    file : WeightsFile
    allow_missing : bool or "layers"
        ``"layers"``: only blobs of another shape are an error (``CopyTrainedLayersFrom``).

    Returns
    -------
    LoadReport

    Raises
    ------
    WeightsError
        With the table, where the file does not fit and `allow_missing` is False.

    Notes
    -----
    Where layers of the net have one name, the first of them takes the weights, as in Caffe. A file that has as many
    layers of that name fills them in order; Caffe would write them all into the first one.
    """
    report = LoadReport(str(file.path))
    nodes = [node for node in graph.nodes if node.blueprints]
    stored = _by_node(nodes, file, report)
    copies: list[tuple[Blob, BlobRecord]] = []
    shared = {node.spec.param(i).name for node in nodes if node.index in stored
              for i in stored[node.index].places} - {""}
    for node in nodes:
        layer, blobs = stored.get(node.index), params[node.index]
        if layer is None:
            continue
        why = _why_not(blobs, layer, node.spec, shared)
        if why:
            report.mismatched.append((node.spec.name, why))
            continue
        copies += [(blobs[i], record) for i, record in zip(layer.places, layer.blobs)]
        report.loaded.append(node.spec.name)
    found = {layer.name for layer in stored.values()}
    for node in nodes:
        names = [node.spec.param(i).name for i in range(len(node.blueprints))]
        if node.index not in stored and not shared.issuperset(names):
            (report.repeated if node.spec.name in found else report.missing).append(node.spec.name)
    known = {node.spec.name for node in nodes}
    report.unused = list(dict.fromkeys(layer.name for layer in file.layers if layer.blobs and layer.name not in known))
    if not report.complete and (not allow_missing or (allow_missing == "layers" and report.mismatched)):
        raise WeightsError("the weights do not fit the net; expected every layer's blobs once and in the net's shapes "
                           "(allow_missing=True or --allow-missing loads what fits). "
                           + report.table().replace("\n", ";"))
    for blob, record in copies:
        blob.array[...] = blob.backend.asarray(record.load().reshape(blob.shape))
    return report


def _by_node(nodes: Sequence[Node], file: WeightsFile, report: LoadReport) -> dict[int, LayerWeights]:
    """Return what the file has for each node, by the node's index; note names that the file has too often."""
    takers: dict[str, list[Node]] = {}
    for node in nodes:
        takers.setdefault(node.spec.name, []).append(node)
    given: dict[str, list[LayerWeights]] = {}
    for layer in file.layers:
        if layer.blobs:
            given.setdefault(layer.name, []).append(layer)
    stored: dict[int, LayerWeights] = {}
    for name, layers in given.items():
        here = takers.get(name, [])
        if len(layers) == len(here):
            stored.update((node.index, layer) for node, layer in zip(here, layers))
            continue
        if len(layers) > 1:
            report.duplicates.append(name)
        if here:
            stored[here[0].index] = layers[-1]
    return stored
