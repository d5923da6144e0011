"""``atrouscaffe adapt``: fit weights to a net with other classes or a decimated fc6."""

from __future__ import annotations

import argparse

from atrouscaffe.cli.options import placeholders
from atrouscaffe.errors import ArgumentError

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Write weights for NET, made from those of a related one: layers of the same name are copied, convolutions that
are smaller than the stored layer (VGG-16's fc6 as 4x4 or 3x3, 1024 of 4096 channels) are decimated, classifiers with
another number of classes start from the net's fillers. A table says what became of each layer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("weights", metavar="WEIGHTS", help="caffemodel or caffemodel.h5 to start from")
    parser.add_argument("net", metavar="NET", help="prototxt to fit it to; a train net, which has fillers")
    parser.add_argument("out", metavar="OUT", help="caffemodel (or .h5) to write")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW",
                        help="take layer OLD of the file for layer NEW of the net; may be repeated")
    parser.add_argument("--set", dest="variables", action="append", default=[], metavar="NAME=VALUE",
                        help="fill the placeholder ${NAME} in the net; may be repeated")
    parser.add_argument("--phase", choices=("train", "test"), default="train", help="phase of the net (train)")
    parser.add_argument("--seed", type=int, metavar="N", help="for fillers; a fresh one by default")
    parser.add_argument("--dialect", metavar="NAME", help="read the weights as v1, v2 or bvlc")


def _pairs(words: list[str], option: str, form: str) -> dict[str, str]:
    wrong = next((word for word in words if "=" not in word), None)
    if wrong is not None:
        raise ArgumentError(f"{option}: expected {form}, got {wrong!r}")
    return dict(word.split("=", 1) for word in words)


def run(args: argparse.Namespace) -> int:
    """Adapt; print the table; return the exit status."""
    from atrouscaffe.pipeline.adapt import adapt
    from atrouscaffe.spec import Phase

    variables = placeholders(args.variables)
    report = adapt(args.weights, args.net, args.out, rename=_pairs(args.rename, "--rename", "OLD=NEW"),
                   variables=variables, phase=Phase[args.phase.upper()],
                   seed=args.seed, dialect=args.dialect, allow_paths=args.allow_path)
    print(report.table())
    print(f"wrote {args.out}")
    return 0
