#!/usr/bin/env python3
"""Score the embedded model, without and with its CRF, beside the model it was trained from.

    python tools/evaluate_embedded.py --voc VOC2012 --list devval --reference VOC2012/reference_devval.json
    python tools/evaluate_embedded.py --voc VOC2012 --list holdout.txt --start deploy.prototxt START.caffemodel

The starting model's figures are read from a reference file (keys ``plain`` and ``crf``), or computed with the
CRF parameters of that reference. Exit status 1: a figure is below what the model card promises.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrouscaffe.data.voc import VocFolder
from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.pipeline.evaluate import evaluate
from atrouscaffe.pipeline.segment import Segmenter

SHARE, PIXEL_ACCURACY = 0.95, 93.0
BANDS = ("1", "2", "4", "8", "16", "32")


def reference(path: Path) -> dict[str, Any]:
    """Read the starting model's figures in the form that `evaluate` gives ours."""
    stored = json.loads(path.read_text(encoding="utf-8"))

    def figures(found: Mapping[str, Any]) -> dict[str, Any]:
        bands = {width: {"mean_iou": band.get("mean_iou_21", band.get("mean_iou")),
                         "pixel_accuracy": band["pixel_accuracy"]} for width, band in found["trimap"].items()}
        return {"mean_iou": found["mean_iou_21"], "mean_iou_present": found["mean_iou_present"],
                "pixel_accuracy": found["pixel_accuracy"], "iou": found["iou"], "trimap": bands}

    return {kind: figures(stored[kind]) for kind in ("plain", "crf")}


def score(segmenter: Segmenter, voc: Path, name: str, limit: int | None) -> dict[str, Any]:
    """Run a model over a list; a dot for each tenth image goes to stderr."""
    samples = VocFolder(voc).samples(name)[:limit]

    def progress(done: int, _: Any) -> None:
        if done % 10 == 0 or done == len(samples):
            print(f"\r{done}/{len(samples)}", end="" if done < len(samples) else "\n", file=sys.stderr, flush=True)

    return evaluate(segmenter, samples, progress=progress).as_dict()


def table(start: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Return both models' figures side by side."""
    columns = [found.get(kind) for found in (start, ours) for kind in ("plain", "crf")]

    def row(label: str, values: list[Any]) -> str:
        return f"{label:<24}" + "".join(f"{'-' if v is None else f'{v:.2f}':>14}" for v in values)

    def pick(*keys: str) -> list[Any]:
        found = []
        for column in columns:
            for key in keys:
                column = column[key] if column is not None else None
            found.append(column)
        return found

    lines = [f"{'':<24}" + "".join(f"{name:>14}" for name in ("start", "start + CRF", "embedded", "embedded + CRF"))]
    lines += [row(label, pick(key)) for label, key in (("mean IoU", "mean_iou"), ("  of classes present",
                                                       "mean_iou_present"), ("pixel accuracy", "pixel_accuracy"))]
    lines += [row(f"IoU {name}", pick("iou", name)) for name in ours["plain"]["iou"]]
    lines += [row(f"band {width} px, mean IoU", pick("trimap", width, "mean_iou")) for width in BANDS]
    lines += [row(f"band {width} px, accuracy", pick("trimap", width, "pixel_accuracy")) for width in BANDS]
    return "\n".join(lines)


def promises(start: Mapping[str, Any], ours: Mapping[str, Any]) -> list[tuple[bool, str]]:
    """Return what the model card promises, and whether it holds here."""
    plain, crf, goal = ours["plain"], ours["crf"], SHARE * start["plain"]["mean_iou"]
    found = [(plain["mean_iou"] >= goal, f"mean IoU {plain['mean_iou']:.2f} is {plain['mean_iou'] / goal * SHARE:.1%} "
              f"of the start's {start['plain']['mean_iou']:.2f} (at least {SHARE:.0%} is {goal:.2f})"),
             (plain["pixel_accuracy"] >= PIXEL_ACCURACY,
              f"pixel accuracy {plain['pixel_accuracy']:.2f} is at least {PIXEL_ACCURACY}")]
    for key, name in (("mean_iou", "mean IoU"), ("pixel_accuracy", "pixel accuracy")):
        found.append((crf[key] > plain[key], f"the CRF raises {name}: {plain[key]:.2f} to {crf[key]:.2f}"))
        for width in BANDS:
            a, b = plain["trimap"][width][key], crf["trimap"][width][key]
            found.append((b > a, f"the CRF raises {name} within {width} px of borders: {a:.2f} to {b:.2f}"))
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="Score the embedded model beside the model it was trained from.")
    parser.add_argument("--voc", type=Path, required=True, help="VOC's folder")
    parser.add_argument("--list", default="devval", help="list in ImageSets/Segmentation, or a file (devval)")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--reference", type=Path, help="file with the starting model's figures for this list")
    start.add_argument("--start", nargs=2, metavar=("PROTOTXT", "CAFFEMODEL"), help="compute them")
    parser.add_argument("--weights", type=Path, help="other weights of the embedded net")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(argv)
    try:
        if options.reference:
            first = reference(options.reference)
        else:
            first = score(Segmenter(*options.start, mean=127.5, scale=1 / 127.5, crf="deeplabv3-mnv2"), options.voc,
                          options.list, options.limit)
        segmenter = Segmenter("deeplab-mnv2-largefov", options.weights, crf=True)
        ours = score(segmenter, options.voc, options.list, options.limit)
    except AtrousCaffeError as error:
        print(f"evaluate_embedded: {error}", file=sys.stderr)
        return 2
    checks = promises(first, ours)
    print(table(first, ours))
    print("\n" + "\n".join(f"{'yes' if holds else 'NO ':<4}{text}" for holds, text in checks))
    if options.json:
        kept = {"list": options.list, "crf": segmenter.crf, "start": first, "embedded": ours}
        with atomic_write(options.json) as file:
            file.write((json.dumps(kept, indent=1) + "\n").encode())
    return 0 if all(holds for holds, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
