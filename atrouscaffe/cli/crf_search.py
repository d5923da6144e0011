"""``atrouscaffe crf-search``: find CRF parameters on images with saved scores."""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Search CRF parameters on a list of images with saved scores and ground truth: on a grid, at random, or coarse "
        "to fine as the paper does. DIR gets search.json, search.txt (the table), heatmap.png and journal.jsonl, from "
        "which a search that was stopped goes on.")


def _numbers(text: str) -> list[float]:
    """Read ``5,10`` or MATLAB's ``50:10:100``."""
    if ":" in text:
        parts = [float(part) for part in text.split(":")]
        low, step, high = (parts[0], 1.0, parts[1]) if len(parts) == 2 else parts
        if step <= 0 or high < low or (high - low) / step > 1000:
            raise argparse.ArgumentTypeError(f"expected LOW:STEP:HIGH of at most 1000 values, got {text}")
        return [round(low + i * step, 6) for i in range(int((high - low) / step + 1e-9) + 1)]
    return [float(part) for part in text.split(",")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    data = parser.add_argument_group("data")
    data.add_argument("--data", required=True, metavar="DIR", help="folder in VOC's layout")
    data.add_argument("--list", required=True, metavar="NAME", help="list to search on: a file, or a name, like train")
    data.add_argument("--limit", type=int, metavar="N", help="take N images of the list, drawn once by --seed")
    data.add_argument("--scores", required=True, metavar="DIR",
                      help="saved scores: ID.npz with scores (C, H, W), or ID_blob_0.mat")
    data.add_argument("--classes", type=int, default=21, metavar="N", help="number of classes (21)")
    data.add_argument("--evaluation-list", metavar="NAME", help="warn where this list shares images with --list")
    how = parser.add_argument_group("search")
    how.add_argument("--method", choices=("grid", "random", "coarse-to-fine"), default="coarse-to-fine",
                     help="how points are chosen (coarse-to-fine)")
    how.add_argument("--sigma-xy", type=_numbers, default=_numbers("50:10:100"), metavar="V,V|A:STEP:B",
                     help="sigma of positions in the bilateral kernel, pixels (50:10:100)")
    how.add_argument("--sigma-rgb", type=_numbers, default=_numbers("3:1:10"), metavar="V,V|A:STEP:B",
                     help="sigma of colours, levels of 255 (3:1:10)")
    how.add_argument("--weight", type=_numbers, default=_numbers("5,10"), metavar="V,V|A:STEP:B",
                     help="weight of the bilateral kernel, nats (5,10)")
    how.add_argument("--position-sigma", type=_numbers, default=[3.0], metavar="V,V",
                     help="sigma of the position kernel, pixels (3)")
    how.add_argument("--position-weight", type=_numbers, default=[3.0], metavar="V,V", help="its weight, nats (3)")
    how.add_argument("--iterations", type=int, default=10, metavar="N", help="mean-field updates (10)")
    how.add_argument("--samples", type=int, default=50, metavar="N", help="points of a random search (50)")
    how.add_argument("--rounds", type=int, default=1, metavar="N", help="finer stages of coarse-to-fine (1)")
    how.add_argument("--seed", type=int, default=10, metavar="N", help="of random points and of --limit (10)")
    parser.add_argument("--out", default="crf-search", metavar="DIR", help="folder for the results (crf-search)")


def run(args: argparse.Namespace) -> int:
    """Search, write the results, print the table."""
    from pathlib import Path

    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.crf.search import Journal, Point, overlap, run_points
    from atrouscaffe.data.lists import read_ids
    from atrouscaffe.data.voc import VocFolder
    from atrouscaffe.errors import ArgumentError, FileAccessError

    for name in ("classes", "iterations", "samples"):
        if getattr(args, name) < 1:
            raise ArgumentError(f"--{name}: expected at least 1, got {getattr(args, name)}")
    folder = VocFolder(args.data)
    samples = _chosen(folder.samples(args.list), args)
    if args.evaluation_list:
        evaluated = (ident for ident, _ in read_ids(folder.list_file(args.evaluation_list)))
        shared = overlap((sample.id for sample in samples), evaluated)
        if shared:
            print(f"atrouscaffe: warning: {len(shared)} of the images searched on are in {args.evaluation_list} too "
                  f"({', '.join(shared[:3])}{', …' if len(shared) > 3 else ''}); its figures will flatter the "
                  "parameters", file=sys.stderr)
    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(f"cannot make the folder: {error.strerror}", args.out) from None
    items = [_item(sample, args) for sample in samples]
    settings = {"images": [item.name for item in items], "scores": str(Path(args.scores).resolve()),
                "classes": args.classes}
    journal = Journal(out / "journal.jsonl", settings)
    results = []
    none = Point(1, 1, 1, iterations=0)
    try:
        for number in range(1 + (args.rounds if args.method == "coarse-to-fine" else 0)):
            points = _stage(number, args, results)
            progress = Progress(len(items), "images")
            found = run_points(items, [none, *points], journal, args.classes, done=progress.update)
            progress.close()
            results = sorted({r.point: r for r in results + found}.values(), key=lambda r: (-r.mean_iou, r.point))
    finally:
        journal.close()
    _write(out, results, settings)
    return 0


def _chosen(samples: list, args: argparse.Namespace) -> list:
    if args.limit is None or args.limit >= len(samples):
        return samples
    import random

    return sorted(random.Random(args.seed).sample(samples, max(1, args.limit)), key=lambda sample: sample.line)


def _item(sample: Any, args: argparse.Namespace) -> Any:
    from atrouscaffe.crf.search import Item

    def load() -> tuple:
        from atrouscaffe.data.image import read_image
        from atrouscaffe.data.palette import read_labels
        from atrouscaffe.pipeline.store import read_scores

        image = read_image(sample.image)[:, :, ::-1]
        return image, read_scores(args.scores, sample.id, image.shape[:2]), read_labels(sample.label)

    return Item(sample.id, load)


def _stage(number: int, args: argparse.Namespace, results: list) -> list:
    """Return the points of a stage: the grid or the random draw, then ever finer grids around the best."""
    from atrouscaffe.crf.search import finer, grid, random_points

    if args.method == "random":
        ranges = [(min(values), max(values)) for values in (args.sigma_xy, args.sigma_rgb, args.weight)]
        return random_points(args.samples, *ranges, position_sigma=args.position_sigma[0],
                             position_weight=args.position_weight[0], iterations=args.iterations, seed=args.seed)
    if number == 0:
        return grid(args.sigma_xy, args.sigma_rgb, args.weight, args.position_sigma, args.position_weight,
                    args.iterations)
    best = next(result.point for result in results if result.point.iterations)
    steps = []
    for values in (args.sigma_xy, args.sigma_rgb, args.weight):
        values = sorted(set(values))
        apart = [b - a for a, b in itertools.pairwise(values)] or [values[0] / 2]
        steps.append(min(apart) / 2 ** (number - 1))
    return finer(best, tuple(steps))


def _table(results: list) -> str:
    lines = ["sigma_xy  sigma_rgb  weight  position  weight  iterations  mean IoU  pixel accuracy"]
    for result in results:
        p = result.point
        figures = f"{100 * result.mean_iou:8.2f}  {100 * result.pixel_accuracy:14.2f}"
        lines.append(f"{'no CRF':<58}  {figures}" if not p.iterations else
                     f"{p.bilateral_sigma_xy:8g}  {p.bilateral_sigma_rgb:9g}  {p.bilateral_weight:6g}  "
                     f"{p.position_sigma:8g}  {p.position_weight:6g}  {p.iterations:10d}  {figures}")
    return "\n".join(lines) + "\n"


def _write(out: Any, results: list, settings: dict) -> None:
    """Write table, JSON and picture; print the table."""
    import json
    from dataclasses import asdict

    from atrouscaffe.formats.atomic import atomic_write

    table = _table(results)
    rows = [asdict(r.point) | {"mean_iou": r.mean_iou, "pixel_accuracy": r.pixel_accuracy} for r in results]
    text = json.dumps({"settings": settings, "results": rows}, indent=1)
    files = {"search.txt": table.encode(), "search.json": text.encode(), "heatmap.png": _heat_map(results)}
    for name, data in files.items():
        with atomic_write(out / name) as file:
            file.write(data)
    print(table, end="")


def _heat_map(results: list) -> bytes:
    """Return a PNG: mean IoU over sigma_xy (columns) and sigma_rgb (rows), the best of all else."""
    import cv2
    import numpy as np

    from atrouscaffe.data.overlay import encode_picture

    best: dict[tuple[float, float], float] = {}
    for r in results:
        if r.point.iterations:
            place = (r.point.bilateral_sigma_xy, r.point.bilateral_sigma_rgb)
            best[place] = max(best.get(place, 0.0), r.mean_iou)
    columns, rows = (sorted({place[i] for place in best}) for i in (0, 1))
    wide, high, left, top = 76, 36, 90, 44
    picture = np.full((top + high * len(rows) + 10, left + wide * len(columns) + 10, 3), 255, np.uint8)
    low, span = min(best.values()), max(max(best.values()) - min(best.values()), 1e-9)

    def write(text: str, x: int, y: int) -> None:
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)

    write("sigma_rgb \\ sigma_xy", 6, 16)
    for i, column in enumerate(columns):
        write(f"{column:g}", left + i * wide + 20, 36)
    for j, row in enumerate(rows):
        write(f"{row:g}", 40, top + j * high + 23)
        for i, column in enumerate(columns):
            if (column, row) not in best:
                continue
            share = (best[column, row] - low) / span
            corner = (left + i * wide, top + j * high)
            colour = (int(230 - 150 * share), int(235 - 40 * share), int(250 - 180 * share))
            cv2.rectangle(picture, corner, (corner[0] + wide - 3, corner[1] + high - 3), colour, -1)
            write(f"{100 * best[column, row]:.2f}", corner[0] + 14, corner[1] + 22)
    return encode_picture(picture)
