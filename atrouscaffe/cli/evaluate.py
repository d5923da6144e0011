"""``atrouscaffe evaluate``: score a model on a list of images."""

from __future__ import annotations

import argparse
import json
from typing import Any

from atrouscaffe.cli.options import add_model_options, make_segmenter

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Run a model over a list of images with ground truth and print mean IoU, pixel accuracy, the IoU of each "
        "class, and the scores in bands along object borders. With --crf, without and with the CRF.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model_options(parser)
    data = parser.add_argument_group("data")
    data.add_argument("--voc", metavar="ROOT", required=True, help="folder with JPEGImages and SegmentationClass")
    data.add_argument("--list", metavar="NAME", default="val", help="list in ImageSets/Segmentation, or a file (val)")
    data.add_argument("--labels", metavar="FOLDER", default="SegmentationClass",
                      help="folder of label maps below ROOT (SegmentationClass)")
    data.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--trimap", choices=("distance", "void", "none"), default="distance",
                        help="bands by distance from any border, by the authors' dilated void, or none (distance)")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON; - is the standard output")


def run(args: argparse.Namespace) -> int:
    """Evaluate; 1 where images had to be left out."""
    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.data.voc import VocFolder
    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.pipeline.evaluate import DISTANCE_WIDTHS, evaluate

    samples = VocFolder(args.voc, args.labels).samples(args.list)
    if args.limit is not None:
        if args.limit < 1:
            raise ArgumentError(f"--limit: expected at least 1, got {args.limit}")
        samples = samples[:args.limit]
    segmenter = make_segmenter(args)
    trimap = None if args.trimap == "none" else args.trimap
    widths = tuple(range(1, 41)) if trimap == "void" else DISTANCE_WIDTHS
    progress = Progress(len(samples))

    def show(done: int, report: Any) -> None:
        running = next(reversed(report.evaluations.values())).matrix.mean_iou("skip")
        progress.update(done, f"mean IoU {100 * running:.2f}")

    report = evaluate(segmenter, samples, trimap=trimap, widths=widths, progress=show)
    progress.close()
    figures = {"model": str(args.model), "weights": args.weights, "preprocessing": segmenter.preprocessing,
               "crf_parameters": segmenter.crf, "list": args.list} | report.as_dict()
    if args.json == "-":
        print(json.dumps(figures, indent=1))
    else:
        if args.json:
            from atrouscaffe.formats.atomic import atomic_write

            with atomic_write(args.json) as file:
                file.write(json.dumps(figures, indent=1).encode())
        print(table(figures, list(report.evaluations)))
    return 1 if report.failed else 0


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def table(figures: dict[str, Any], kinds: list[str]) -> str:
    """Return the figures as text."""
    def row(label: str, cells: list[str]) -> str:
        return f"{label:<26}" + "".join(f"{cell:>16}" for cell in cells)

    columns = [figures[kind] for kind in kinds]
    lines = [row(f"{figures['images']} images", kinds)]
    for key, label in (("mean_iou", "mean IoU"), ("mean_iou_present", "  over classes present"),
                       ("pixel_accuracy", "pixel accuracy"), ("mean_accuracy", "mean accuracy"),
                       ("frequency_weighted_iou", "frequency weighted IoU")):
        lines.append(row(label, [_cell(column[key]) for column in columns]))
    if any(column["mean_iou_devkit"] is None for column in columns):
        lines.append("(classes that are nowhere count 0 in the mean IoU; the VOC devkit gives none for the mean then)")
    absent = columns[0]["absent"]
    if absent:
        lines.append(f"(not in the ground truth: {', '.join(absent)})")
    lines += ["", row("IoU", [""] * len(kinds))]
    lines += [row(f"  {name}", [_cell(column["iou"][name]) for column in columns]) for name in columns[0]["iou"]]
    if columns[0]["trimap"]:
        lines += ["", row("border band, pixels", ["IoU / accuracy"] * len(kinds))]
        for width in columns[0]["trimap"]:
            bands = [column["trimap"][width] for column in columns]
            lines.append(row(f"  {width}", [f"{_cell(band['mean_iou'])} / {_cell(band['pixel_accuracy'])}"
                                           for band in bands]))
    if figures["failed"]:
        lines += ["", f"{len(figures['failed'])} images were left out:", *(f"  {text}" for text in figures["failed"])]
    return "\n".join(lines)
