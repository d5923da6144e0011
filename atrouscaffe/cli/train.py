"""``atrouscaffe train``: train a net as its solver file says."""

from __future__ import annotations

import argparse

from atrouscaffe.cli import caffe_options
from atrouscaffe.cli.options import add_device_options, placeholders

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Train a net as its solver file says. Progress goes to standard error, in lines
that parsers of Caffe's logs read; a log (JSON lines) and a chart (SVG)
stand beside the snapshots. Ctrl-C (SIGINT) or SIGTERM writes a snapshot and stops, SIGHUP writes one and goes on. The
exit status is 0 at max_iter, 130 after a signal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--solver", required=True, metavar="FILE", help="solver prototxt")
    parser.add_argument("--weights", metavar="FILE[,FILE...]", help="caffemodels to start from")
    parser.add_argument("--allow-missing", action="store_true",
                        help="let weights lack layers, or have them in other shapes: these start from fillers")
    parser.add_argument("--snapshot", metavar="FILE|auto",
                        help="solverstate to resume; auto: the newest whole one with the solver's prefix, if any")
    parser.add_argument("--set", dest="variables", action="append", default=[], metavar="NAME=VALUE",
                        help="fill the placeholder ${NAME} in solver and nets; may be repeated")
    add_device_options(parser)
    caffe_options.add(parser)
    for name, default in (("int", "stop"), ("hup", "snapshot")):
        parser.add_argument(f"--sig{name}-effect", choices=("stop", "snapshot", "none"), default=default,
                            help=f"what SIG{name.upper()} does: stop (with a snapshot), snapshot or none ({default})")
    parser.add_argument("--skip-bad-images", action="store_true",
                        help="pass over images and label maps that cannot be read; each is named once")
    parser.add_argument("--log", metavar="FILE", help="JSON lines (default: snapshot prefix + .log.jsonl)")
    parser.add_argument("--plot", metavar="FILE", help="chart as SVG (default: snapshot prefix + .svg)")


def run(args: argparse.Namespace) -> int:
    """Train; return the exit status."""
    from atrouscaffe.pipeline import glog
    from atrouscaffe.pipeline.train import train

    device = caffe_options.device(args)
    weights = [part for part in (args.weights or "").split(",") if part]
    _, stopped = train(args.solver, weights=weights, snapshot=args.snapshot,
                       variables=placeholders(args.variables), device=device,
                       precision=args.precision,
                       allow_paths=args.allow_path, allow_missing=args.allow_missing, log=args.log, plot=args.plot,
                       say=glog.info, level=args.level, stages=caffe_options.stages(args),
                       sigint=args.sigint_effect, sighup=args.sighup_effect,
                       allow_python_layers=args.allow_python_layers, skip_bad_images=args.skip_bad_images)
    return 130 if stopped else 0
