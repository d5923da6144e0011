"""``atrouscaffe device-query``: what nets can run on."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Say what nets can run on: processors and GPUs. The exit status is 2 where a GPU that --gpu names is not "
        "ready.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--gpu", metavar="N|all", help="GPUs that must be ready: numbers with commas, or all")


def run(args: argparse.Namespace) -> int:
    """Write what is there; return the exit status.

    Raises
    ------
    ArgumentError, DeviceError, DependencyError
        A GPU was asked for that cannot be used.
    """
    import platform

    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.pipeline import glog
    from atrouscaffe.runtime.backend import get_backend
    from atrouscaffe.runtime.cuda import dotted, probe
    from atrouscaffe.runtime.threads import num_threads

    threads = num_threads()
    glog.info(f"cpu: {platform.machine()}, {threads} thread{'s' * (threads > 1)}", "common.cpp:1")
    found = probe()
    for index, (name, capability) in enumerate(zip(found.devices, found.capability)):
        glog.info(f"cuda:{index}: {name}, compute capability {capability[0]}.{capability[1]}", "common.cpp:1")
    if found.devices:
        glog.info(f"cuda: driver {dotted(found.driver)}, runtime {dotted(found.runtime)}, CuPy {found.cupy}, "
                  f"{found.state}", "common.cpp:1")
    elif args.gpu is None:
        glog.info(found.message, "common.cpp:1")
    if args.gpu is not None:
        wanted = [str(i) for i in range(max(1, len(found.devices)))] if args.gpu == "all" else args.gpu.split(",")
        for number in wanted:
            if not number.isdigit():
                raise ArgumentError(f"--gpu: expected numbers with commas, or all, got {args.gpu!r}")
            get_backend(f"cuda:{number}")
            glog.info(f"cuda:{number}: ready", "common.cpp:1")
    return 0
