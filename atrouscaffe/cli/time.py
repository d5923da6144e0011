"""``atrouscaffe time``: how long each layer takes, forward and backward."""

from __future__ import annotations

import argparse

from atrouscaffe.cli import caffe_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Time a net forward and backward, by layer. The lines are those of `caffe time`, on standard error. Data layers
read their data; a net with Input layers runs on zeros."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    caffe_options.add_net_options(parser)
    parser.add_argument("--phase", choices=("TRAIN", "TEST"), default="TRAIN", help="phase (TRAIN, as in Caffe)")


def run(args: argparse.Namespace) -> int:
    """Time; return the exit status."""
    from atrouscaffe.pipeline import glog
    from atrouscaffe.pipeline.timing import time_layers
    from atrouscaffe.spec import Phase

    net = caffe_options.make_net(args, Phase[args.phase])
    timing = time_layers(net, args.iterations, glog.info)
    glog.info("Average time per layer: ")
    for name, forward, backward in timing.layers:
        glog.info(f"{name:>10}\tforward: {forward:g} ms.")
        glog.info(f"{name:>10}\tbackward: {backward:g} ms.")
    glog.info(f"Average Forward pass: {timing.forward:g} ms.")
    glog.info(f"Average Backward pass: {timing.backward:g} ms.")
    glog.info(f"Average Forward-Backward: {timing.forward + timing.backward:g} ms.")
    glog.info(f"Total Time: {timing.total:g} ms.")
    glog.info("*** Benchmark ends ***")
    return 0
