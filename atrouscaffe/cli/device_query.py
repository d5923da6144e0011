"""``atrouscaffe device-query``: what nets can run on."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Say what nets can run on: processors, and the GPU that --gpu names."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--gpu", metavar="N|all", help="GPUs to ask about: numbers with commas, or all")


def run(args: argparse.Namespace) -> int:
    """Write what is there; return the exit status.

    Raises
    ------
    DeviceError
        A GPU was asked for that this version cannot use.
    """
    import platform

    from atrouscaffe.pipeline import glog
    from atrouscaffe.runtime.backend import get_backend
    from atrouscaffe.runtime.threads import num_threads

    glog.info(f"cpu: {platform.machine()}, {num_threads()} threads", "common.cpp:1")
    if args.gpu is not None:
        for number in ["0"] if args.gpu == "all" else args.gpu.split(","):
            get_backend(f"cuda:{number}")
            glog.info(f"cuda:{number}: ready", "common.cpp:1")
    return 0
