"""``atrouscaffe test``: the mean of a net's outputs over many batches."""

from __future__ import annotations

import argparse

from atrouscaffe.cli import caffe_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Run a net with data layers in phase TEST and write the mean of its outputs. The lines are those of
`caffe test`, on standard error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    caffe_options.add_net_options(parser)


def run(args: argparse.Namespace) -> int:
    """Test; return the exit status."""
    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.pipeline import glog
    from atrouscaffe.pipeline.timing import mean_outputs
    from atrouscaffe.spec import TEST

    if args.weights is None:
        raise ArgumentError("test: expected --weights, got none")
    net = caffe_options.make_net(args, TEST)
    glog.info(f"Running for {args.iterations} iterations.")
    loss, outputs = mean_outputs(net, args.iterations, glog.info)
    glog.info(f"Loss: {loss:g}")
    weights = net.blob_loss_weights
    for name, values in outputs.items():
        for value in values:
            share = f" (* {weights[name]:g} = {weights[name] * value:g} loss)" if weights[name] else ""
            glog.info(f"{name} = {value:g}{share}")
    return 0
