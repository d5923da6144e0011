"""The caffe program's way to write a command line, and the options that its commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from atrouscaffe.cli.options import add_device_options
from atrouscaffe.errors import DeviceError

__all__ = ["COMMANDS", "add", "add_net_options", "device", "make_net", "respell", "stages"]

COMMANDS = ("train", "test", "time", "device-query", "classify")
ALIASES = {"device_query": "device-query"}
WITH_VALUE = ("--threads", "--allow-path")
_FLAG = re.compile(r"--?([a-z]+(?:_[a-z]+)*)(=.*)?", re.DOTALL)


def respell(argv: Sequence[str]) -> list[str]:
    """Write ``-solver x``, ``--solver=x`` and ``-sigint_effect=stop`` as ``--solver x``, for Caffe's commands only."""
    words = list(argv)
    at = next((i for i, word in enumerate(words) if not word.startswith("-")
               and (i == 0 or words[i - 1] not in WITH_VALUE)), len(words))
    if at == len(words) or ALIASES.get(words[at], words[at]) not in COMMANDS:
        return words
    words[at] = ALIASES.get(words[at], words[at])
    for i in range(at + 1, len(words)):
        match = _FLAG.fullmatch(words[i])
        if match and (len(match[1]) > 1):
            words[i] = f"--{match[1].replace('_', '-')}{match[2] or ''}"
    return words


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose layers and a device."""
    parser.add_argument("--gpu", metavar="N|all", help="a GPU, as the caffe program names it: --device cuda:N")
    parser.add_argument("--level", type=int, metavar="N", help="level of the net's state")
    parser.add_argument("--stage", metavar="NAME[,NAME...]", help="stages of the net's state")
    parser.add_argument("--allow-python-layers", action="store_true",
                        help="run the code that Python layers name; only for nets that you trust as programs")


def device(args: argparse.Namespace) -> str:
    """Return the device that ``--gpu`` or ``--device`` names.

    Raises
    ------
    DeviceError
        Several GPUs, or one that this version cannot use.
    """
    if args.gpu is None:
        return args.device
    if args.gpu == "all" or "," in args.gpu:
        raise DeviceError(f"--gpu {args.gpu}: a net runs on one device here, several GPUs do not work together")
    from atrouscaffe.runtime.backend import get_backend

    name = f"cuda:{args.gpu}"
    get_backend(name)
    return name


def stages(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the stages of ``--stage``."""
    return tuple(part for part in (args.stage or "").split(",") if part)


def add_net_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that run one net."""
    parser.add_argument("--model", required=True, metavar="NET", help="prototxt")
    parser.add_argument("--weights", metavar="FILE[,FILE...]", help="caffemodels")
    parser.add_argument("--allow-missing", action="store_true", help="run with weights that fit only in part")
    parser.add_argument("--iterations", type=int, default=50, metavar="N", help="how often the net runs (50)")
    parser.add_argument("--set", dest="variables", action="append", default=[], metavar="NAME=VALUE",
                        help="fill ${NAME} in the prototxt")
    add_device_options(parser)
    add(parser)


def make_net(args: argparse.Namespace, phase: Any) -> Any:
    """Return the net that the options describe."""
    from atrouscaffe.cli.options import placeholders
    from atrouscaffe.net import Net

    variables = placeholders(args.variables)
    net = Net(args.model, phase, level=args.level, stages=stages(args) or None, weights=args.weights,
               variables=variables, allow_missing=args.allow_missing,
               allow_paths=args.allow_path, device=device(args), precision=args.precision,
               allow_python_layers=args.allow_python_layers)
    variables.check_used("--set")
    return net
