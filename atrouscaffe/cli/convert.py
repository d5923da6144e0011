"""``atrouscaffe convert``: nets, weights, means and solver states from one format or dialect to another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrouscaffe.cli.options import placeholders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from atrouscaffe.spec import NetSpec

HELP = "convert nets, weights, means and solver states between formats and dialects"

_DIALECTS = ("v1", "v2", "bvlc", "segnet", "enet", "pspnet", "crfrnn", "ssd", "rfcn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "Convert SRC into DST; the suffixes say what they are: .prototxt (text net), .caffemodel (binary net with "
        "weights), .caffemodel.h5 (weights), .binaryproto and .npy (mean), .solverstate and .solverstate.h5.")
    parser.add_argument("source", metavar="SRC", help="file to read")
    parser.add_argument("target", metavar="DST", help="file to write, whole or not at all")
    parser.add_argument("--dialect", choices=_DIALECTS, help="dialect of SRC (default: told from its content)")
    parser.add_argument("--proto", metavar="FILE", help="caffe.proto of the fork that wrote SRC, by whose names and "
                                                        "numbers it is read")
    parser.add_argument("--to-dialect", choices=_DIALECTS,
                        help="dialect of DST (default: bvlc, or the newest that has the net's layers)")
    parser.add_argument("--net", metavar="NET", help="text net for weights that bring none (HDF5) or another one")
    parser.add_argument("--half", action="store_true", help="write HDF5 weights as float16")
    kinds = ("net", "weights", "mean", "state", "solver")
    parser.add_argument("--as", dest="kind", choices=kinds, help="what SRC is, if its suffix does not say")
    parser.add_argument("--to", dest="target_kind", choices=kinds, help="what DST is, if its suffix does not say")
    parser.add_argument("--set", dest="variables", metavar="NAME=VALUE", action="append", default=[],
                        help="value of a ${NAME} placeholder in a text net")


def run(args: argparse.Namespace) -> int:
    """Convert one file; return the exit status.

    Raises
    ------
    AtrousCaffeError
        What cannot be read, written or said in the target.
    """
    from atrouscaffe.formats.diagnose import kind_by_suffix

    source = args.kind or kind_by_suffix(args.source)
    target = args.target_kind or ("solver" if source == "solver" else kind_by_suffix(args.target))
    if source in _ALIKE:
        if target != source:
            _cannot(args, source, target)
        _ALIKE[source](args)
    elif target not in ("net", "weights"):
        _cannot(args, source, target)
    elif source == "net":
        _from_net(args, target)
    else:
        _from_weights(args, target)
    print(f"wrote {args.target}")
    return 0


def _cannot(args: argparse.Namespace, source: str, target: str) -> None:
    from atrouscaffe.errors import ArgumentError

    raise ArgumentError(f"cannot convert {args.source} ({source}) into {args.target} ({target}); nets and weights "
                        "convert into each other, means into means, solvers into solvers, solver states into "
                        "solver states")


def _mean(args: argparse.Namespace) -> None:
    from atrouscaffe.formats.mean import read_mean, write_mean

    write_mean(args.target, read_mean(args.source), legacy=args.to_dialect == "v1")


def _state(args: argparse.Namespace) -> None:
    from atrouscaffe.formats.solverstate import read_solverstate, write_solverstate

    write_solverstate(args.target, read_solverstate(args.source))


def _solver(args: argparse.Namespace) -> None:
    from atrouscaffe.formats.atomic import atomic_write
    from atrouscaffe.formats.prototxt import read_solver, write_solver

    variables = placeholders(args.variables)
    text = write_solver(read_solver(args.source, variables=variables))
    variables.check_used("--set")
    with atomic_write(args.target) as file:
        file.write(text.encode())


_ALIKE = {"mean": _mean, "state": _state, "solver": _solver}
"""Kinds of files that convert into their own kind only."""


def _from_net(args: argparse.Namespace, target: str) -> None:
    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.formats.prototxt import read_net

    variables = placeholders(args.variables)
    net = read_net(args.source, variables=variables, dialect=args.dialect, proto=args.proto)
    variables.check_used("--set")
    if target == "net":
        _write_text(args, net)
    elif Path(args.target).suffix.lower() in (".h5", ".hdf5"):
        raise ArgumentError(f"{args.source} has no weights to write into {args.target}; write a .caffemodel")
    else:
        _write_binary(args, net, {})


def _from_weights(args: argparse.Namespace, target: str) -> None:
    from atrouscaffe.errors import WeightsError
    from atrouscaffe.formats.hdf5 import write_hdf5
    from atrouscaffe.formats.prototxt import read_net
    from atrouscaffe.formats.splits import as_written
    from atrouscaffe.formats.weights import open_weights

    file = open_weights(args.source, dialect=args.dialect, proto=args.proto)
    for field in file.unknown_fields:
        _warn(f"{args.source}: unknown field {field} is left out")
    if target == "weights" and Path(args.target).suffix.lower() in (".h5", ".hdf5"):
        write_hdf5(args.target, file.arrays(natural=True), half=args.half)
        return
    net = read_net(args.net, variables=placeholders(args.variables), proto=args.proto) if args.net else file.net
    if net is None:
        raise WeightsError(f"{file.net_problem or 'there is no net in it'}; give one with --net", args.source)
    net = as_written(net)
    if target == "net":
        _write_text(args, net)
    else:
        _write_binary(args, net, file.arrays(natural=True))


def _in_dialect(args: argparse.Namespace, net: NetSpec) -> tuple[NetSpec, str]:
    """Return the net with its options in the words of the target dialect, and that dialect."""
    from atrouscaffe.formats.dialect import infer_text, spec_dialect
    from atrouscaffe.formats.downgrade import translate
    from atrouscaffe.formats.fields import net_record, net_spec

    wire = args.to_dialect
    record = net_record(net)
    notes: Sequence[str] = translate(record, net.dialect, wire or "bvlc")
    if wire is None:
        wire = infer_text(record)
        if wire == "v1":  # it has layers that only v1 has: leave it as it is
            record, notes = net_record(net), ()
    for note in notes:
        _warn(f"{args.target}: {note}")
    return net_spec(record, spec_dialect(wire), net.path), wire


def _write_text(args: argparse.Namespace, net: NetSpec) -> None:
    from atrouscaffe.formats.atomic import atomic_write
    from atrouscaffe.formats.prototxt import write_net

    net, wire = _in_dialect(args, net)
    text = write_net(net, wire)
    with atomic_write(args.target) as file:
        file.write(text.encode())


def _write_binary(args: argparse.Namespace, net: NetSpec, params: Mapping[str, Sequence[Any]]) -> None:
    from atrouscaffe.formats.caffemodel import write_caffemodel

    net, wire = _in_dialect(args, net)
    for what in write_caffemodel(args.target, net, params, dialect=wire):
        _warn(f"{args.target}: dialect {wire} has no {what}; it is left out")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
