"""``atrouscaffe warmup``: compile ahead what the first run would compile."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Compile ahead what nets, training and the CRF would compile at their first use: the functions of the CPU "
        "engine, and, where a CUDA device is ready, all kernels for it. What is compiled is kept on disk, so that a "
        "second run has nothing to do.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--device", metavar="D", help="only this: cpu, cuda or cuda:N (the CPU, and the GPU where one "
                                                      "is ready)")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(args: argparse.Namespace) -> int:
    """Compile; return the exit status.

    Raises
    ------
    DeviceError, DependencyError, FileAccessError
        The device cannot be had, or what is compiled cannot be kept.
    """
    import json

    from atrouscaffe.pipeline.warmup import warm_cpu, warm_device
    from atrouscaffe.runtime.cuda import probe

    done: dict[str, list[dict[str, Any]]] = {}
    if args.device in (None, "cpu"):
        done["cpu"] = _told("cpu", warm_cpu(), args.json)
    if args.device != "cpu":
        found = None if args.device else probe()
        if found is None or found.state == "ready":
            done[args.device or "cuda"] = _told(args.device or "cuda", warm_device(args.device or "cuda"), args.json)
        elif not args.json:
            reason = found.message.removeprefix("device 'cuda': ").split("; ")[0]
            print(f"cuda: nothing to do: {reason}")
    if args.json:
        print(json.dumps(done, indent=1))
    return 0


def _told(device: str, steps: Iterable[Any], silent: bool) -> list[dict[str, Any]]:
    """Run the steps, print each that compiled something, and a line for all."""
    rows = []
    for step in steps:
        rows.append(step._asdict())
        if step.compiled and not silent:
            print(f"{device}: {step.name}: {step.seconds:.1f} s, {', '.join(step.compiled)}", flush=True)
    seconds, compiled = sum(row["seconds"] for row in rows), sum(len(row["compiled"]) for row in rows)
    if not silent:
        there = sum(row["there"] for row in rows)
        print(f"{device}: {f'{compiled} compiled' if compiled else 'nothing was to be compiled'}, {there} were there, "
              f"{seconds:.1f} s")
    return rows
