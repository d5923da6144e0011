"""Options that several commands share: the model, and how images go into it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from atrouscaffe.errors import ArgumentError

__all__ = ["ENGINES", "PRECISIONS", "add_device_options", "add_engine_options", "add_model_options",
           "make_segmenter", "pairs", "placeholders"]

ENGINES = ("winograd", "direct", "panels", "columns")
"""Those of `atrouscaffe.runtime.backend`, which is not imported for the sake of ``--help``."""
PRECISIONS = ("fp32", "tf32", "fp16")
"""Those of `atrouscaffe.runtime.cuda`, which is not imported for the sake of ``--help``."""


def add_device_options(parser: Any) -> None:
    """Add the options that say on which device a net runs, and with what operands."""
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32",
                        help="operands of matrix products on a CUDA device; sums and blobs stay float32 (fp32)")


def add_engine_options(parser: Any) -> None:
    """Add the options that say which way convolutions take on the CPU."""
    parser.add_argument("--engine", choices=ENGINES, metavar="WAY",
                        help=f"way of convolutions on the CPU, where it can do the work: {', '.join(ENGINES)} (the "
                             "fastest for each layer)")
    parser.add_argument("--no-winograd", action="store_true",
                        help="no convolution by Winograd's transforms, whose rounding differs from that of plain sums")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which net runs, and how."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="NET",
                       help="prototxt, or the name of a known model, such as deeplab-largefov or pspnet101-voc (all "
                            "are in docs/zoo.md); a net that does not come with this package lies beside the weights, "
                            "or is named: pspnet101-voc=FILE.prototxt; by default the embedded model, which knows "
                            "VOC's 20 classes")
    group.add_argument("--weights", metavar="FILE", help="caffemodel (binary or HDF5); several with commas")
    group.add_argument("--allow-missing", action="store_true", help="run with weights that fit only in part")
    group.add_argument("--output", metavar="BLOB", help="blob of the scores, where the net has several outputs")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="fill ${NAME} in the prototxt")
    group.add_argument("--dialect", choices=("v1", "v2", "bvlc"), help="what the net's layers go by")
    group.add_argument("--weights-dialect", metavar="NAME", choices=("v1", "v2", "bvlc", "segnet", "enet", "pspnet",
                                                                       "crfrnn", "ssd", "rfcn"),
                       help="how the caffemodel is read: v1, v2, bvlc, segnet, enet, pspnet, crfrnn, ssd or rfcn (what "
                            "it looks like)")
    group.add_argument("--proto", metavar="FILE", help="caffe.proto of the fork that wrote the caffemodel")
    group.add_argument("--mean", metavar="M",
                       help="mean to subtract, in levels of 255: a number, one a channel (B,G,R), or a mean file (the "
                            "net's own, or the known model's)")
    group.add_argument("--scale", type=float, metavar="S",
                       help="factor applied after the mean (the net's own, or the known model's, else 1)")
    group.add_argument("--channel-order", choices=("bgr", "rgb"), default="bgr", help="what the net wants (bgr)")
    add_device_options(group)
    add_engine_options(group)
    group.add_argument("--memory-budget", type=float, metavar="MB",
                       help="most memory for blobs and results (ATROUSCAFFE_MEMORY_BUDGET, in bytes; else 0.9 of the "
                            "machine's)")
    group.add_argument("--tile", type=int, metavar="PX",
                       help="largest side of a tile for large images, pixels (as large as the memory budget allows)")
    crf = parser.add_argument_group("CRF")
    crf.add_argument("--crf", nargs="?", const=True, default=False, metavar="PRESET",
                     help="refine by the fully connected CRF, with the model's parameters or a named preset")
    crf.add_argument("--crf-set", action="append", default=[], metavar="NAME=VALUE",
                     help="CRF parameter in place of the preset's, such as bilateral_sigma_xy=80")


def pairs(words: list[str], option: str, number: bool = False) -> dict[str, Any]:
    """Return NAME=VALUE words as a dict.

    Raises
    ------
    ArgumentError
        A word without ``=``, or a value that is no number.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise ArgumentError(f"{option}: expected NAME=VALUE, got {word!r}")
        found[name] = _number(value, option) if number else value
    return found


def placeholders(words: list[str]) -> Any:
    """Return the NAME=VALUE words of ``--set`` as `atrouscaffe.formats.template.Variables`."""
    from atrouscaffe.formats.template import Variables

    return Variables(pairs(words, "--set"))


def _number(text: str, option: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if option == "--crf-set" and text.isalpha():
        return text
    raise ArgumentError(f"{option}: expected a number, got {text!r}")


def parse_mean(text: str | None) -> Any:
    """Return the numbers of ``--mean``, or the path of a mean file.

    Raises
    ------
    ArgumentError
        Neither.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        if not os.path.exists(text):
            raise ArgumentError(f"--mean: expected a number, one a channel (B,G,R), or a mean file, got {text!r}, "
                                "which is neither a number nor there as a file") from None
        return text


def make_segmenter(args: argparse.Namespace, **more: Any) -> Any:
    """Return the Segmenter that the options describe, and `more` of its own arguments."""
    from atrouscaffe.pipeline.registry import EMBEDDED
    from atrouscaffe.pipeline.segment import Segmenter

    if args.model is None and args.weights is None:
        args.model = EMBEDDED
        print(f"atrouscaffe: no --model given, using the embedded model {EMBEDDED} (see docs/model-card.md)",
              file=sys.stderr)
    budget = args.memory_budget
    if budget is not None and not 0 < budget < 1e9:
        raise ArgumentError(f"--memory-budget: expected a number of MB above 0, got {budget}")
    if args.crf_set and not args.crf:
        raise ArgumentError("--crf-set: has no effect without --crf; give --crf, too")
    variables = placeholders(args.set)
    segmenter = Segmenter(
        args.model, args.weights, args.device, precision=args.precision, engine=args.engine,
        winograd=not args.no_winograd, mean=parse_mean(args.mean), scale=args.scale,
        channel_order=args.channel_order, crf=args.crf, crf_params=pairs(args.crf_set, "--crf-set", number=True),
        output=args.output, variables=variables, dialect=args.dialect,
        weights_dialect=args.weights_dialect, proto=args.proto, allow_missing=args.allow_missing,
        allow_paths=args.allow_path,
        memory_budget=None if budget is None else int(budget * 1e6), tile=args.tile, **more)
    variables.check_used("--set")
    return segmenter
