"""The names of Caffe's upgrade tools, over what ``convert`` does: old files into today's form."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "add_arguments", "run"]

KINDS = {"upgrade_net_proto_text": "net", "upgrade_net_proto_binary": "weights", "upgrade_solver_proto_text": "solver"}

HELP = "Write an old file in today's form. `convert` does more."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="SRC", help="file to read")
    parser.add_argument("target", metavar="DST", help="file to write, whole or not at all")


def run(args: argparse.Namespace) -> int:
    """Upgrade one file; return the exit status."""
    from atrouscaffe.cli import convert

    kind = KINDS[args.command]
    options = argparse.ArgumentParser()
    convert.add_arguments(options)
    return convert.run(options.parse_args([args.source, args.target, "--as", kind, "--to", kind]))
