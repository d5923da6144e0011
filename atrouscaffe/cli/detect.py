"""``atrouscaffe detect``: objects in photographs by SSD's nets, as a table, JSON and pictures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from atrouscaffe.cli.options import add_device_options, pairs, parse_mean
from atrouscaffe.cli.pictures import Picture, add_folder_options, find_pictures

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Find objects in photographs with a deploy net that ends in DetectionOutput (SSD, MobileNet-SSD): one line an
object on standard output, and NAME_boxes.png with the boxes drawn and their classes named below."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("inputs", nargs="+", metavar="IMAGE|FOLDER")
    add_folder_options(parser)
    parser.add_argument("--model", required=True, metavar="NET", help="deploy prototxt")
    parser.add_argument("--weights", metavar="FILE", help="caffemodel (binary or HDF5)")
    parser.add_argument("--labels", metavar="FILE", help="label map with the names of the classes (labelmap.prototxt)")
    parser.add_argument("--mean", required=True, metavar="M",
                        help="mean to subtract: a number, or one a channel (B,G,R)")
    parser.add_argument("--scale", type=float, default=1.0, metavar="S", help="factor applied after the mean (1)")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="T", help="least score of what is shown (0.5)")
    parser.add_argument("--out", default="detected", metavar="DIR", help="folder for the pictures (detected)")
    parser.add_argument("--no-picture", action="store_true", help="write no pictures")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--allow-missing", action="store_true", help="run with weights that fit only in part, or none")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="fill ${NAME} in the prototxt")
    parser.add_argument("--weights-dialect", metavar="NAME", help="how the caffemodel is read (what it looks like)")
    parser.add_argument("--proto", metavar="FILE", help="caffe.proto of the fork that wrote the caffemodel")
    add_device_options(parser)


def run(args: argparse.Namespace) -> int:
    """Detect in every picture; 2 where one could not be used."""
    from atrouscaffe.errors import ArgumentError, AtrousCaffeError, FileAccessError
    from atrouscaffe.formats.written import protect
    from atrouscaffe.pipeline.detect import Detector

    mean = parse_mean(args.mean)
    if isinstance(mean, str):
        raise ArgumentError(f"--mean: expected a number, or one a channel (B,G,R), got {args.mean!r}")
    todo, out = find_pictures(args.inputs, videos=False, recursive=args.recursive), Path(args.out)
    protect(job.path for job in todo)
    if not args.no_picture:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileAccessError(f"cannot make the folder: {error.strerror}", args.out) from None
    detector = Detector(args.model, args.weights, args.device, precision=args.precision, mean=mean, scale=args.scale,
                        label_map=args.labels, variables=pairs(args.set, "--set"), proto=args.proto,
                        weights_dialect=args.weights_dialect, allow_missing=args.allow_missing,
                        allow_paths=args.allow_path)
    results, failed = [], 0
    for job in todo:
        try:
            results.append(_picture(detector, job, out, args))
        except AtrousCaffeError as error:
            if args.debug:
                raise
            print(f"atrouscaffe: {error}", file=sys.stderr)
            results.append({"input": str(job.path), "error": str(error)})
            failed += 1
    if args.json:
        print(json.dumps({"model": args.model, "weights": args.weights, "results": results}, indent=1))
    return 2 if failed else 0


def _picture(detector: Any, job: Picture, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Detect in one picture, print and draw what is found."""
    from atrouscaffe.data.image import read_image
    from atrouscaffe.data.overlay import draw_boxes, encode_picture
    from atrouscaffe.formats.atomic import atomic_write

    image = read_image(job.path)
    found = detector(image, args.threshold)
    entry: dict[str, Any] = {"input": str(job.path), "objects": [
        {"class": each.label, "name": each.name, "score": round(each.score, 6),
         "box": [round(side, 2) for side in each.box]} for each in found]}
    if not args.no_picture:
        target = out / f"{job.stem}_boxes.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write(encode_picture(draw_boxes(image, [(each.label, each.name, each.score, each.box)
                                                         for each in found])))
        entry["picture"] = str(target)
    if not args.json:
        print(f"{job.path}" + (f" -> {entry['picture']}" if "picture" in entry else "") + f": {len(found)} found")
        for each in found:
            print(f"  {each.score:.4f}  {each.name}  {' '.join(f'{side:.1f}' for side in each.box)}")
    return entry
