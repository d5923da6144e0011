"""``atrouscaffe draw``: a net as a picture."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Draw a net: layers, blobs and their order. Graphviz lays it out where its program dot is installed; else .svg
and .png get a plain layout, .dot is Graphviz text, and other formats are an error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("net", metavar="NET", help="prototxt")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write; the suffix says the format")
    parser.add_argument("--rankdir", choices=("LR", "TB", "BT", "RL"), default="LR",
                        help="direction: LR is left to right (default), TB top to bottom")
    parser.add_argument("--phase", choices=("TRAIN", "TEST"), help="only layers of this phase")
    parser.add_argument("--display-lrm", action="store_true", help="show learning-rate multipliers")
    parser.add_argument("--set", dest="variables", action="append", default=[], metavar="NAME=VALUE",
                        help="fill ${NAME} in the prototxt")


def run(args: argparse.Namespace) -> int:
    """Draw; return the exit status."""
    import shutil

    from google.protobuf import text_format

    from atrouscaffe.cli.options import placeholders
    from atrouscaffe.formats.prototxt import read_net, write_net
    from atrouscaffe.pycaffe import draw
    from atrouscaffe.pycaffe.proto import caffe_pb2

    variables = placeholders(args.variables)
    net = read_net(args.net, variables=variables)
    variables.check_used("--set")
    text = write_net(net, "bvlc" if net.dialect == "v1" else None)
    message = text_format.Parse(text, caffe_pb2.NetParameter())
    phase = None if args.phase is None else caffe_pb2.Phase.Value(args.phase)
    draw.draw_net_to_file(message, args.out, args.rankdir, phase, args.display_lrm)
    how = "" if shutil.which("dot") or args.out.endswith((".dot", ".raw", ".gv")) else \
        " (Graphviz is not installed: plain layout)"
    print(f"wrote {args.out}{how}")
    return 0
