"""``atrouscaffe inspect``: what is in a file, or why it will not load."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from atrouscaffe.cli.options import placeholders
from atrouscaffe.errors import ArgumentError, AtrousCaffeError

if TYPE_CHECKING:
    from atrouscaffe.formats.weightsfile import BlobRecord
    from atrouscaffe.pipeline.registry import KnownModel
    from atrouscaffe.spec import NetSpec, Phase

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Say what is in a file. For a net: layers, shapes, parameters, work, memory, stride and receptive field (as it
is, and by the rule of the DeepLab paper where there is an fc6). For weights: dialect and why, blobs, ranges, values
that are not finite. For a file that will not load: why, and what to do; the exit status is then 2."""

KINDS = ("net", "solver", "weights", "mean", "state", "labels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", metavar="FILE", nargs="?",
                        help="prototxt, caffemodel (binary or HDF5), mean or solverstate file")
    parser.add_argument("--as", dest="kind", choices=KINDS, help="what the file is; by default its suffix says so")
    parser.add_argument("--layers", action="store_true", help="list all layer types, those of plug-ins with their "
                                                              "package; no FILE then")
    parser.add_argument("--dialect", metavar="NAME", help="read it as v1, v2 or bvlc (weights also segnet, enet, "
                                                          "pspnet, crfrnn, ssd) instead of what it looks like")
    parser.add_argument("--proto", metavar="FILE", help="caffe.proto of the fork that wrote a net or weights, by whose "
                                                        "names and numbers it is read")
    parser.add_argument("--json", action="store_true", help="print one JSON object; docs/inspect.md lists its keys")
    parser.add_argument("--phase", choices=("train", "test"),
                        help="phase of a net; by default test, or train where only that has inputs")
    parser.add_argument("--set", dest="variables", action="append", default=[], metavar="NAME=VALUE",
                        help="fill the placeholder ${NAME}; may be repeated")
    parser.add_argument("--allow-python-layers", action="store_true",
                        help="run the code that Python layers name, which says their shapes")
    parser.add_argument("--input-shape", dest="shapes", action="append", default=[], metavar="[BLOB=]N,C,H,W",
                        help="shape of an input instead of the file's; without a name it is the first input's")


def run(args: argparse.Namespace) -> int:
    """Inspect one file.

    Raises
    ------
    AtrousCaffeError
        The file does not load; with ``--json`` the reason is printed as JSON first.
    """
    from atrouscaffe.formats.diagnose import is_label_map, kind_by_suffix
    from atrouscaffe.formats.prototxt import read_text

    if args.layers == bool(args.file):
        raise ArgumentError(f"expected either a file or --layers, got {'both' if args.file else 'none of them'}")
    if args.layers:
        report, text = _layers()
        print(json.dumps(report) if args.json else text)
        return 0
    kind = args.kind or kind_by_suffix(args.file)
    for option, given in (("--phase", args.phase), ("--set", args.variables), ("--input-shape", args.shapes)):
        if given and kind not in (("net", "solver") if option == "--set" else ("net",)):
            raise ArgumentError(f"{option} is for nets; {args.file} is inspected as {kind} (--as says otherwise)")
    for option, given in (("--dialect", args.dialect), ("--proto", args.proto)):
        if given and kind not in ("net", "weights"):
            raise ArgumentError(f"{option} is for nets and weights; {args.file} is inspected as {kind}")
    try:
        if args.kind is None and kind == "net" and is_label_map(read_text(args.file)):
            kind = "labels"
        report, text = {"net": _net, "solver": _solver, "weights": _weights, "mean": _mean, "state": _state,
                        "labels": _labels}[kind](args)
    except AtrousCaffeError as error:
        if args.json:
            print(json.dumps({"kind": kind, "path": args.file, "problem": str(error)}))
        raise
    print(json.dumps({"path": args.file, **report}, allow_nan=False) if args.json else text)
    return 0


def _shape(word: str, inputs: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """Return a [BLOB=]N,C,H,W word as (blob, shape)."""
    name, sign, numbers = word.rpartition("=")
    sizes = numbers.replace("x", ",").split(",")
    if (sign and not name) or not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise ArgumentError(f"--input-shape: expected [BLOB=]N,C,H,W with sizes of at least 1, got {word!r}")
    if not inputs:
        raise ArgumentError("--input-shape: this net has no inputs, its data layers say the shapes")
    blob = name or inputs[0]
    if blob not in inputs:
        raise ArgumentError(f"--input-shape: the net has no input {blob!r}; its inputs are {', '.join(inputs)}")
    return blob, tuple(int(size) for size in sizes)


def _phase(spec: NetSpec, asked: str | None) -> Phase:
    """Return the phase to show: what was asked for, the file's own, else the one that has inputs."""
    from atrouscaffe.graph.graph import included
    from atrouscaffe.spec import Phase

    if asked:
        return Phase[asked.upper()]
    if spec.phase is not None:
        return spec.phase
    sources = [layer for layer in spec.layers if not layer.bottoms]
    in_test, in_train = (any(included(layer, phase) for layer in sources) for phase in (Phase.TEST, Phase.TRAIN))
    return Phase.TRAIN if in_train and not in_test else Phase.TEST


def _net(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from atrouscaffe.data.paths import PathGuard
    from atrouscaffe.formats.prototxt import read_net
    from atrouscaffe.graph.graph import Graph
    from atrouscaffe.graph.report import describe, render
    from atrouscaffe.pipeline.registry import by_name

    variables = placeholders(args.variables)
    spec = read_net(args.file, variables=variables, dialect=args.dialect, proto=args.proto)
    variables.check_used("--set")
    inputs = [top for layer in spec.layers if layer.type == "Input" for top in layer.tops]
    shapes = dict(_shape(word, inputs) for word in args.shapes)
    paths = PathGuard(spec.path, getattr(args, "allow_path", None) or ())
    report = describe(Graph(spec, _phase(spec, args.phase), paths=paths, input_shapes=shapes,
                            allow_python_layers=args.allow_python_layers))
    known = by_name(spec.name)
    report |= {"known": [known.name] if known else [], "known_by": "name" if known else None}
    return report, "\n".join([render(report), *([_table(_about(known))] if known else [])])


def _about(model: KnownModel) -> list[tuple[str, str]]:
    """Return what the registry has on a model, for the table."""
    size = f"{model.weights}, about {model.megabytes:.0f} MB" if model.weights else model.note
    rows = [("known as", model.title), ("weights", size), ("published", model.published), ("CRF preset", model.crf)]
    return [(name.ljust(len("receptive field")), text) for name, text in rows if text]


def _recognised(path: str, parameters: int) -> tuple[list[KnownModel], str | None]:
    """Return the models whose weights a file is, or may be by the number of parameters, and how that was told."""
    from atrouscaffe.pipeline.registry import KNOWN, by_weights

    exact = by_weights(path)
    if exact is not None:
        return [exact], "sha256"
    alike = [model for model in KNOWN if model.weights and model.parameters == parameters]
    return alike, "parameters" if alike else None


def _plain(value: Any) -> Any:
    """Return a schema value in JSON's types."""
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "layers"):
        return f"net {value.name!r} of {len(value.layers)} layers"
    if hasattr(value, "message_name"):
        return {name: _plain(getattr(value, name)) for name in value}
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.7g}")  # the schema's floats have single precision
    return value if not isinstance(value, (bytes, float)) else str(value)


def _solver(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from atrouscaffe.formats.prototxt import read_solver

    variables = placeholders(args.variables)
    fields = read_solver(args.file, variables=variables)
    variables.check_used("--set")
    options, unknown = _plain(fields), list(fields.all_unknown())
    rows = [(name, json.dumps(value)) for name, value in options.items()]
    rows += [("not known", f"{phrase}; training refuses it") for phrase in unknown]
    return {"kind": "solver", "options": options, "unknown_fields": unknown}, _table(rows)


def _statistics(blob: BlobRecord) -> dict[str, Any]:
    """Return shape, type and range of a stored blob; null where no value is finite."""
    import numpy as np

    values = blob.load()
    finite = values[np.isfinite(values)]
    entry: dict[str, Any] = {"shape": list(blob.shape), "dtype": blob.dtype, "count": int(values.size),
                             "nonfinite": int(values.size - finite.size), "min": None, "max": None, "mean": None}
    if finite.size:
        entry |= {"min": float(finite.min()), "max": float(finite.max()), "mean": float(finite.mean(dtype=np.float64))}
    return entry


def _range(entry: dict[str, Any]) -> str:
    """Write a blob's range and what is wrong with it."""
    text = f"{entry['min']:.4g} … {entry['max']:.4g}, mean {entry['mean']:.4g}" if entry["min"] is not None else ""
    if entry["nonfinite"]:
        text = f"{text}; {entry['nonfinite']:,} of {entry['count']:,} NaN or infinite".removeprefix("; ")
    return text or "empty"


def _not_known(net: NetSpec | None) -> list[str]:
    """Return a sentence for each layer of a net whose type or fields are not known here."""
    from atrouscaffe.layers.base import layer_types

    types = {"", *layer_types()}
    sentences = []
    for layer in net.layers if net else ():
        said = [f"type {layer.type!r}"] if layer.type not in types else []
        said += layer.fields.all_unknown()
        if said:
            sentences.append(f"layer {layer.name!r}: {'; '.join(said)}")
    return sentences


def _weights(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from atrouscaffe.formats.dialect import FORKS
    from atrouscaffe.formats.weights import open_weights

    file = open_weights(args.file, dialect=args.dialect, proto=args.proto)
    layers = [{"name": layer.name, "type": layer.type, "blobs": [_statistics(blob) for blob in layer.blobs]}
              for layer in file.layers]
    blobs = [blob for layer in layers for blob in layer["blobs"]]
    names = [layer["name"] for layer in layers if layer["blobs"]]
    dialect = file.dialect if file.kind != "hdf5" else None
    report = {"kind": "weights", "format": file.kind, "dialect": dialect, "evidence": file.evidence,
              "fork": FORKS[dialect] if dialect and not args.proto else None,
              "name": file.net.name if file.net else None, "net_problem": file.net_problem,
              "layers": layers, "parameters": sum(blob["count"] for blob in blobs),
              "nonfinite": sum(blob["nonfinite"] for blob in blobs),
              "duplicates": sorted({name for name in names if names.count(name) > 1}),
              "unknown_fields": list(file.unknown_fields), "not_known": _not_known(file.net)}
    known, how = _recognised(args.file, report["parameters"])
    report |= {"known": [model.name for model in known], "known_by": how}
    rows = [("layer", "type", "blob", "dtype", "values")]
    for layer in layers:
        for i, blob in enumerate(layer["blobs"]):
            shape = "x".join(map(str, blob["shape"])) or "scalar"
            rows.append((layer["name"] if i == 0 else "", layer["type"] if i == 0 else "", shape, blob["dtype"],
                         _range(blob)))
    facts = [("format", f"{file.kind}, dialect {file.dialect} ({file.evidence})" if file.kind != "hdf5" else "HDF5"),
             ("written by", f"{report['fork']}, or one that numbers alike" if report["fork"] else "not told"),
             ("net", report["name"] or file.net_problem or "not in this format"),
             ("layers", f"{len(layers)}, {len(names)} of them with weights"),
             ("parameters", f"{report['parameters']:,}"),
             ("not finite", f"{report['nonfinite']:,} values" if report["nonfinite"] else "none")]
    if how == "sha256":
        facts += [("known as", known[0].title), ("CRF preset", known[0].crf)]
    elif known:
        facts.append(("fits", f"{', '.join(model.name for model in known)} (as many parameters; --model names a net)"))
    if report["duplicates"]:
        facts.append(("duplicates", f"{', '.join(report['duplicates'])}; only a net with as many layers of that name "
                                    "takes them"))
    facts += [("not known", sentence) for sentence in report["not_known"]]
    if file.unknown_fields:
        facts.append(("unknown", f"{', '.join(file.unknown_fields)}; another dialect may know them (--dialect)"))
    return report, f"{_columns(rows)}\n\n{_table(facts)}"


def _mean(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import numpy as np

    from atrouscaffe.formats.mean import read_mean

    mean = read_mean(args.file)
    wrong = int(mean.size - np.count_nonzero(np.isfinite(mean)))
    channels = [float(value) if math.isfinite(value) else None for value in mean.mean(axis=(1, 2), dtype=np.float64)]
    report = {"kind": "mean", "shape": list(mean.shape), "channel_means": channels, "nonfinite": wrong}
    means = ", ".join("not finite" if value is None else f"{value:.4f}" for value in channels)
    facts = [("mean image", "x".join(map(str, mean.shape))), ("channel means", means)]
    if wrong:
        facts.append(("not finite", f"{wrong:,} values"))
    return report, _table(facts)


def _state(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from atrouscaffe.formats.solverstate import read_solverstate

    state = read_solverstate(args.file)
    report = {"kind": "state", "iteration": state.iter, "learned_net": state.learned_net,
              "current_step": state.current_step, "history": [list(array.shape) for array in state.history]}
    return report, _table([("iteration", f"{state.iter:,}"), ("weights", state.learned_net or "not named"),
                           ("current step", str(state.current_step)), ("history", f"{len(state.history)} blobs")])


def _layers() -> tuple[dict[str, Any], str]:
    from atrouscaffe.graph.layer_list import layer_list

    entries = layer_list()
    rows = [("type", "bottoms → tops", "options", "package", "what it does")]
    rows += [(entry.type, f"{entry.bottoms} → {entry.tops}", entry.options, entry.package,
              entry.summary.replace("``", "").partition(". ")[0]) for entry in entries]
    return {"kind": "layers", "layers": [dataclasses.asdict(entry) for entry in entries]}, _columns(rows)


def _labels(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from atrouscaffe.formats.labelmap import read_label_map

    labels = read_label_map(args.file)
    report = {"kind": "labels", "labels": [{"label": label.label, "name": label.name,
                                            "display_name": label.display_name} for label in labels]}
    rows = [("label", "name", "display name"), *((str(label.label), label.name, label.display_name)
                                                 for label in labels)]
    return report, f"label map: the names of a detector's {len(labels)} classes\n\n{_columns(rows)}"


def _table(facts: Sequence[tuple[str, str]]) -> str:
    """Return name and text in two columns."""
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in facts)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
