"""Fit weights to another net: other classes, and VGG-16's fully connected layers as smaller convolutions.

Source: Section 3.2 of the DeepLab paper: the first fully connected layer, as a convolution of 7x7, is
thinned out to 4x4 or 3x3 by simple decimation; the later nets keep 1024 of its 4096 channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from atrouscaffe.errors import ArgumentError, WeightsError
from atrouscaffe.formats.weights import BlobRecord, open_weights
from atrouscaffe.graph.graph import Node
from atrouscaffe.net import Net
from atrouscaffe.spec import Phase

__all__ = ["AdaptReport", "adapt"]


@dataclass
class AdaptReport:
    """What became of each layer with parameters.

    Attributes
    ----------
    rows : list of (str, str, str)
        Layer; "copied", "decimated" or "initialised"; what that means here.
    unused : list of str
        Layers of the weight file that nothing was taken from.
    hints : list of str
        Layers of the file that might be meant by ones that were initialised.
    """

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the report as text, one line a layer."""
        width = max((len(name) for name, _, _ in self.rows), default=0)
        lines = [f"{action:11}  {name:{width}}  {detail}".rstrip() for name, action, detail in self.rows]
        lines += [f"unused       {name}" for name in self.unused]
        return "\n".join(lines + self.hints)


def adapt(weights: str | Path, net: str | Path, out: str | Path, *, rename: Mapping[str, str] | None = None,
          variables: Mapping[str, str] | None = None, phase: Phase = Phase.TRAIN, seed: int | None = None,
          dialect: str | None = None, allow_paths: Sequence[str | Path] = ()) -> AdaptReport:
    """Write weights for a net, made from those of a related one.

    A layer takes the blobs of the same name where their shapes fit. Where a convolution is smaller
    than the stored layer (in kernel, outputs or inputs) it is decimated: kernel positions and channels
    at equal distances are kept, and the layers behind keep the inputs that are left. A stored
    fully connected layer counts as a convolution over its whole input. What finds nothing, or has
    another number of classes at the end of the net, starts from the net's fillers.

    Parameters
    ----------
    weights : path
        ``.caffemodel`` or ``.caffemodel.h5``.
    net : path
        Prototxt to fit them to.
    out : path
        File to write, whole or not at all; HDF5 if its name ends in ``.h5``.
    rename : mapping of str to str, optional
        Layer of the file → layer of the net, such as ``fc8_pascal`` → ``fc8_voc12``.
    variables : mapping of str to str, optional
    phase : Phase
        Of the net: TRAIN, whose prototxt has fillers.
    seed : int, optional
        For fillers.
    dialect : str, optional
        Of the weights.
    allow_paths : sequence of path

    Returns
    -------
    AdaptReport

    Raises
    ------
    AtrousCaffeError
        Files that do not load; a rename that names no layer; a kernel that cannot be decimated evenly.
    """
    target = Net(net, phase=phase, variables=variables, seed=seed, allow_paths=allow_paths)
    file = open_weights(weights, dialect=dialect)
    stored = {layer.name: layer.blobs for layer in file.layers if layer.blobs}
    for old, new in (rename or {}).items():
        if old not in stored:
            raise ArgumentError(f"rename: {weights} has no weights of a layer {old!r}")
        if new not in target.params:
            raise ArgumentError(f"rename: the net has no layer with parameters {new!r}")
        stored[new] = stored.pop(old)
    report = AdaptReport()
    kept: dict[int, np.ndarray | None] = {}  # value of the graph → which channels of the original it has; None: all
    names = []
    for node in target.graph.nodes:
        inputs = [kept.get(value) for value in node.bottoms]
        below = next((chosen for chosen in inputs if chosen is not None), None)
        if below is not None and len(inputs) > 1:
            raise WeightsError(f"layer {node.spec.name!r} ({node.spec.type}) joins a decimated layer with others: "
                               "which channels belong together cannot be told")
        if node.blueprints:
            names.append(node.spec.name)
            below = _fit(target, node, stored.get(node.spec.name), below, report)
        for value in node.tops:
            kept[value] = below
    report.unused = sorted(set(stored) - set(names))
    _hint(target, stored, report)
    target.save(out)
    return report


def _fit(net: Net, node: Node, stored: Sequence[BlobRecord] | None, inputs: np.ndarray | None,
         report: AdaptReport) -> np.ndarray | None:
    """Fill one layer's parameters; return which of the original's outputs it has, None for all of them."""
    name = node.spec.name
    blobs = net.params[name]
    if stored is None:
        report.rows.append((name, "initialised", f"{_filler(node)}; not in the file"))
        return None
    if len(stored) != len(blobs):
        report.rows.append((name, "initialised", f"{_filler(node)}; expected {len(blobs)} blobs, got {len(stored)}"))
        return None
    if inputs is None and all(_same(record.shape, blob.shape) or blob.count == math.prod(record.shape)
                              for blob, record in zip(blobs, stored)):
        reshaped = [f"{tuple(record.shape)} as {blob.shape}" for blob, record in zip(blobs, stored)
                    if not _same(record.shape, blob.shape)]
        for blob, record in zip(blobs, stored):
            blob.array[...] = record.load().reshape(blob.shape)
        report.rows.append((name, "copied", "; ".join(reshaped)))
        return None
    if (node.spec.type != "Convolution" or node.layer.p.group != 1 or blobs[0].shape[0] > _outputs(stored[0].shape)
            or _is_last(net, node)):
        why = f"expected {blobs[0].shape}, got {tuple(stored[0].shape)}"
        report.rows.append((name, "initialised", f"{_filler(node)}; {why}"))
        return None
    return _decimate(node, blobs, stored, inputs, report)


def _decimate(node: Node, blobs: Sequence, stored: Sequence[BlobRecord], inputs: np.ndarray | None,
              report: AdaptReport) -> np.ndarray | None:
    """Take a smaller convolution out of a larger one."""
    out_n, in_n, height, width = blobs[0].shape
    weight = stored[0].load()
    total = _outputs(weight.shape)
    channels = _original_inputs(node, weight.shape, in_n, inputs)
    side = math.isqrt(weight.size // (total * channels))
    if total * channels * side * side != weight.size:
        raise WeightsError(f"layer {node.spec.name!r}: weights of shape {tuple(weight.shape)} are no square kernels "
                           f"over {channels} channels")
    weight = weight.reshape(total, channels, side, side)  # (out, in, height, width)
    outputs = _even(total, out_n)
    rows, columns = (_positions(side, n, node) for n in (height, width))
    chosen = np.arange(channels) if inputs is None else inputs
    if chosen[-1] >= channels:
        raise WeightsError(f"layer {node.spec.name!r}: expected weights over more than {chosen[-1]} channels, as the "
                           f"layer in front of it had, got {channels}")
    if len(chosen) != in_n:
        chosen = chosen[_even(len(chosen), in_n)]
    blobs[0].array[...] = weight[np.ix_(outputs, chosen, rows, columns)]
    if len(blobs) > 1:
        blobs[1].array[...] = stored[1].load().reshape(-1)[outputs].reshape(blobs[1].shape)
    parts = [f"kernel {side}x{side} to {height}x{width} (rows {', '.join(map(str, rows))})"] if side != height else []
    parts += [f"outputs {total} to {out_n}"] if total != out_n else []
    parts += [f"inputs {channels} to {in_n}"] if channels != in_n else []
    report.rows.append((node.spec.name, "decimated", "; ".join(parts)))
    return None if total == out_n else outputs


def _original_inputs(node: Node, shape: Sequence[int], inputs_now: int, inputs: np.ndarray | None) -> int:
    """Return how many input channels the stored layer has."""
    if len(shape) == 4 and tuple(shape[:2]) != (1, 1):
        return int(shape[1])
    if inputs is None:
        return inputs_now
    # A fully connected layer behind one that lost channels: its inputs are that layer's outputs, 1x1.
    return math.prod(shape) // _outputs(shape)


def _outputs(shape: Sequence[int]) -> int:
    """Return the number of outputs of a stored weight: (N, K), legacy (1, 1, N, K), or (N, C, h, w)."""
    return int(shape[2] if len(shape) == 4 and tuple(shape[:2]) == (1, 1) and shape[2] > 1 else shape[0])


def _even(total: int, wanted: int) -> np.ndarray:
    """Return `wanted` of `total` indices at equal distances from 0."""
    return np.arange(wanted) * total // wanted


def _positions(side: int, wanted: int, node: Node) -> np.ndarray:
    """Return kernel positions from edge to edge: 7 to 4 are 0, 2, 4, 6; 7 to 3 are 0, 3, 6."""
    if wanted == 1 and side == 1:
        return np.zeros(1, int)
    if wanted < 2 or wanted > side or (side - 1) % (wanted - 1):
        raise WeightsError(f"layer {node.spec.name!r}: a kernel of {side} cannot be decimated evenly to {wanted}")
    return np.arange(wanted) * ((side - 1) // (wanted - 1))


def _is_last(net: Net, node: Node) -> bool:
    """Whether no other convolution or fully connected layer stands behind this one: the classifier."""
    reached = set(node.tops)
    for later in net.graph.nodes[node.index + 1:]:
        if reached.intersection(later.bottoms):
            if later.spec.type in ("Convolution", "InnerProduct", "Deconvolution"):
                return False
            reached.update(later.tops)
    return True


def _same(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes are equal but for ones in front."""
    a, b = (tuple(shape) for shape in (a, b))
    while a[:1] == (1,):
        a = a[1:]
    while b[:1] == (1,):
        b = b[1:]
    return a == b


def _filler(node: Node) -> str:
    """Return what a layer's weights start from, in words."""
    filler = node.blueprints[0].filler
    if filler is None:
        return "constant 0 (the net gives no filler)"
    kind = filler.type or "constant"
    if kind == "constant":
        return f"constant {filler.value:g}"
    return f"{kind} {filler.std:g}" if kind == "gaussian" else kind


def _hint(net: Net, stored: Mapping[str, Sequence[BlobRecord]], report: AdaptReport) -> None:
    """Say which unused layers would fit those that were initialised."""
    for name, action, _ in report.rows:
        if action != "initialised":
            continue
        shapes = [blob.shape for blob in net.params[name]]
        for other in report.unused:
            if [math.prod(shape) for shape in shapes] == [math.prod(record.shape) for record in stored[other]]:
                report.hints.append(f"{name} and the file's {other} have as many numbers: --rename {other}={name} "
                                    "would copy it")
