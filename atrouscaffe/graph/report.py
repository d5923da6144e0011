"""What a net is, in figures: shapes, parameters, work, memory, stride and receptive field.

Everything follows from the graph's shapes; no weights, no arrays. ``atrouscaffe inspect`` prints it.

Source for the paper's rule: Section 3.1 and Table 2 of the DeepLab paper, whose figures all fit
``32 + 8(e-1)`` (padded) and ``212 + 8(e-1)`` (convolutional), e being fc6's span in its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from atrouscaffe.graph.graph import Graph, Node
from atrouscaffe.graph.memory import plan
from atrouscaffe.layers.base import Reach, Shape
from atrouscaffe.spec import Phase

__all__ = ["Field", "describe", "fields", "render"]


@dataclass(frozen=True)
class Field:
    """What the first pixel of a blob sees of the net's inputs along one axis.

    Attributes
    ----------
    begin, end : Fraction
        In input pixels; the receptive field is ``end - begin`` wide, padding included.
    step : Fraction
        Input pixels from one pixel of the blob to the next: the stride; 0 where the blob has no place in
        the input (behind a global pooling).
    everything : bool
        Each pixel may see the whole input.
    """

    begin: Fraction = Fraction(0)
    end: Fraction = Fraction(1)
    step: Fraction = Fraction(1)
    everything: bool = False

    @property
    def extent(self) -> int | None:
        """Width of the receptive field in input pixels; None where that is the whole input."""
        return None if self.everything else math.ceil(self.end - self.begin)

    @property
    def stride(self) -> float | int | None:
        """Input pixels from one pixel to the next; None without a place (a global pooling)."""
        if not self.step:
            return None
        return int(self.step) if self.step.denominator == 1 else float(self.step)

    def through(self, reach: Reach) -> Field:
        """Return the field behind a layer of this reach."""
        if reach.everything:
            return Field(step=Fraction(0), everything=True)
        if self.everything:
            return Field(step=self.step * reach.stride / reach.up, everything=True)
        return Field(self.begin - reach.pad * self.step, self.end + (reach.extent - 1 - reach.pad) * self.step,
                     self.step * reach.stride / reach.up)

    def joined(self, other: Field) -> Field:
        """Return the field of a layer that reads this one's blob and another's."""
        if self.everything or other.everything:
            return Field(step=max(self.step, other.step), everything=True)
        return Field(min(self.begin, other.begin), max(self.end, other.end), max(self.step, other.step))


def fields(graph: Graph) -> list[tuple[Field, Field]]:
    """Return the field along (height, width) of each value of a graph, in the order of `graph.values`."""
    found: dict[int, tuple[Field, Field]] = {}
    for node in graph.nodes:
        reach = node.layer.reach(_shapes(graph, node.bottoms), _shapes(graph, node.tops))
        both = []
        for axis in (0, 1):
            seen = [found[value][axis] for value in node.bottoms]
            whole = seen[0] if seen else Field()
            for other in seen[1:]:
                whole = whole.joined(other)
            both.append(whole.through(reach[axis]) if seen else whole)
        for value in node.tops:
            found[value] = (both[0], both[1])
    return [found[i] for i in range(len(graph.values))]


def _shapes(graph: Graph, values: Sequence[int]) -> list[Shape]:
    return [graph.values[value].shape for value in values]


def _row(graph: Graph, node: Node, field: tuple[Field, Field] | None) -> dict[str, Any]:
    """Return one layer's entry of `describe`."""
    bottoms, tops = _shapes(graph, node.bottoms), _shapes(graph, node.tops)
    return {
        "name": node.spec.name,
        "type": node.spec.type,
        "bottoms": [graph.values[value].name for value in node.bottoms],
        "tops": [graph.values[value].name for value in node.tops],
        "shapes": [list(shape) for shape in tops],
        "params": sum(math.prod(blueprint.shape) for blueprint in node.blueprints),
        "param_shapes": [list(blueprint.shape) for blueprint in node.blueprints],
        "macs": int(node.layer.macs(bottoms, tops)),
        "stride": [axis.stride for axis in field] if field else [],
        "receptive_field": [axis.extent for axis in field] if field else [],
    }


def _score_node(graph: Graph) -> Node | None:
    """The last layer with parameters: in a segmentation net, the one that makes the scores."""
    return next((node for node in reversed(graph.nodes) if node.blueprints and node.tops), None)


def _paper_rule(graph: Graph) -> dict[str, int] | None:
    """The paper's two figures for a net with a layer fc6 that slides over its input."""
    for node in graph.nodes:
        if node.spec.name == "fc6" and node.spec.type == "Convolution":
            reach = node.layer.reach(_shapes(graph, node.bottoms), _shapes(graph, node.tops))[0]
            return {"paper_padded": 32 + 8 * (reach.extent - 1), "paper_convolutional": 212 + 8 * (reach.extent - 1)}
    return None


def describe(graph: Graph) -> dict[str, Any]:
    """Return a net's figures as plain data, with the keys that ``inspect --json`` prints.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    dict
        ``name, dialect, phase, inputs, outputs`` (blob to shape), ``layers`` (``name, type, bottoms,
        tops, shapes, params, param_shapes, macs, stride, receptive_field``), ``parameters, macs,
        flops`` (twice the macs), ``peak_memory_bytes`` and ``memory`` (bytes of float32 blobs and
        parameters), ``score_layer`` with its ``stride`` and ``receptive_field`` (``true`` along
        height and width, null for the whole input; the paper's rule where it applies, else null), ``notes``
        (sentences).

    Notes
    -----
    ``peak_memory_bytes`` is what runs by default: for TEST, blobs dropped after their last reader;
    for TRAIN, all blobs with their gradients. The work space of convolutions comes on top of it.
    """
    seen = fields(graph)
    rows = [_row(graph, node, seen[node.tops[0]] if node.tops else None) for node in graph.nodes]
    score = _score_node(graph)
    field = seen[score.tops[0]] if score else None
    dropped, kept = plan(graph, keep=(), budget=0), plan(graph, budget=0)
    training = plan(graph, gradients=True, budget=0)
    macs = sum(row["macs"] for row in rows)
    rule = _paper_rule(graph) or {"paper_padded": None, "paper_convolutional": None}
    return {
        "kind": "net",
        "name": graph.net.name,
        "dialect": graph.net.dialect,
        "phase": graph.phase.name,
        "inputs": {name: list(graph.shape(name)) for name in graph.inputs},
        "outputs": {name: list(graph.shape(name)) for name in graph.outputs if name},
        "layers": rows,
        "parameters": graph.parameter_count(),
        "macs": macs,
        "flops": 2 * macs,
        "peak_memory_bytes": (training if graph.phase == Phase.TRAIN else dropped).peak_bytes,
        "memory": {"dropping_blobs": dropped.peak_bytes, "keeping_blobs": kept.peak_bytes,
                   "with_gradients": training.peak_bytes, "parameters": dropped.parameter_bytes},
        "score_layer": score.spec.name if score else None,
        "stride": [axis.stride for axis in field] if field else None,
        "receptive_field": {"true": [axis.extent for axis in field] if field else None, **rule},
        "notes": _notes(graph),
    }


def _notes(graph: Graph) -> list[str]:
    """Return what reading decided, and which names repeat."""
    return [*graph.net.notes,
            *(f"{count} layers are named {name!r}: the last one is found by the name, weights go to the first"
              for name, count in graph.repeated_names().items())]


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape) or "scalar"


def _mb(nbytes: int) -> str:
    """Write a number of bytes with about three digits."""
    return f"{nbytes / 1e6:,.0f} MB" if nbytes >= 1e8 else f"{nbytes / 1e6:.3g} MB"


def _pair(values: Sequence[Any]) -> str:
    """Write (height, width) briefly: one number where both agree, `all` for the whole input."""
    words = ["all" if value is None else f"{value:g}" for value in values]
    return words[0] if len(set(words)) == 1 else " x ".join(words)


def render(report: dict[str, Any]) -> str:
    """Return the text that ``atrouscaffe inspect`` prints for `describe`'s figures."""
    head = ("layer", "type", "tops", "parameters", "MMAC", "stride", "field")
    lines = [head]
    for row in report["layers"]:
        tops = " ".join(f"{name or '(nameless)'} {_size(shape)}" for name, shape in zip(row["tops"], row["shapes"]))
        macs = f"{row['macs'] / 1e6:,.1f}" if row["macs"] else ""
        lines.append((row["name"], row["type"], tops, f"{row['params']:,}" if row["params"] else "", macs,
                      _pair(row["stride"]) if row["stride"] else "",
                      _pair(row["receptive_field"]) if row["receptive_field"] else ""))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {3, 4, 5, 6}
    table = ["  ".join(cell.rjust(width) if i in right else cell.ljust(width)
                       for i, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines]
    memory = report["memory"]
    facts = [("net", f"{report['name'] or '(nameless)'}, phase {report['phase']}, dialect {report['dialect']}"),
             ("inputs", ", ".join(f"{name} {_size(shape)}" for name, shape in report["inputs"].items()) or "none"),
             ("outputs", ", ".join(f"{name} {_size(shape)}" for name, shape in report["outputs"].items()) or "none"),
             ("parameters", f"{report['parameters']:,}"),
             ("work", f"{report['macs'] / 1e9:,.3f} GMAC, {report['flops'] / 1e9:,.3f} GFLOP a forward pass"),
             ("peak memory", f"{_mb(report['peak_memory_bytes'])} ({_mb(memory['dropping_blobs'])} dropping blobs, "
                             f"{_mb(memory['keeping_blobs'])} keeping them, {_mb(memory['with_gradients'])} with "
                             f"gradients; parameters {_mb(memory['parameters'])})")]
    field = report["receptive_field"]
    if report["score_layer"] is not None:
        text = f"{_pair(field['true'])} pixels at {report['score_layer']}"
        if field["paper_padded"] is not None:
            text += (f"; by the paper's rule {field['paper_padded']} padded, "
                     f"{field['paper_convolutional']} convolutional")
        facts += [("stride", f"{_pair(report['stride'])} at {report['score_layer']}"), ("receptive field", text)]
    facts += [("note", text) for text in report["notes"]]
    width = max(len(name) for name, _ in facts)
    return "\n".join([*table, "", *(f"{name.ljust(width)}  {text}" for name, text in facts)])
