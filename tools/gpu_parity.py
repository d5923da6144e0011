"""Hold a CUDA device against the CPU: scores of the paper's six nets, labels of trained nets in half precision.

The nets' scores must agree within 1e-4 of the largest in fp32 and 1e-2 in tf32 and fp16; the labels of nets with
trained weights, in fp16, on 99.5 % of the pixels of photographs. Exit status 1 where they do not, 2 without a device.
Photographs are those named, else the ones below the folder of private data (ATROUSCAFFE_SHARED, or ../shared), else
drawn pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from atrouscaffe.data.image import decode_image, read_image, resize_image  # noqa: E402
from atrouscaffe.errors import AtrousCaffeError  # noqa: E402
from atrouscaffe.formats.prototxt import read_net  # noqa: E402
from atrouscaffe.graph.graph import Graph  # noqa: E402
from atrouscaffe.pipeline.benchmark import Settings, Subject, synthetic_picture  # noqa: E402
from atrouscaffe.pipeline.paper import METHODS  # noqa: E402
from atrouscaffe.pipeline.registry import EMBEDDED, by_name, find_prototxt, shipped_weights  # noqa: E402
from atrouscaffe.pipeline.speed import fit_side  # noqa: E402
from atrouscaffe.spec import TEST  # noqa: E402

LARGEST = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 1e-2}
"""Difference allowed, as a share of the largest score: TF32 and half precision round operands to 11 bits."""
EQUAL_LABELS = 0.995
PHOTOGRAPHS = ("voc/JPEGImages/*.jpg", "models/**/photo_*.png")


def photographs(named: Sequence[str], count: int) -> list[Path]:
    """Return the photographs to use, none where there are none."""
    if named:
        return [Path(name) for name in named]
    shared = Path(os.environ.get("ATROUSCAFFE_SHARED") or ROOT.parent / "shared") / "data"
    for pattern in PHOTOGRAPHS:
        found = sorted(shared.glob(pattern))
        if found:
            return found[:: max(1, len(found) // count)][:count]
    return []


def written_side(model: str) -> int:
    """Return the side of the input that a deploy net's file gives."""
    graph = Graph(read_net(find_prototxt(model)), TEST)
    value = graph.values[graph.latest(graph.inputs[0])]
    return value.shape[2]


def pictures(paths: Sequence[Path], side: int, count: int) -> list[np.ndarray]:
    """Return images of a side: photographs, or drawn ones."""
    if paths:
        return [resize_image(read_image(path), side, side) for path in paths]
    return [decode_image(synthetic_picture(side, number).data) for number in range(count)]


def compare(model: str, options: argparse.Namespace, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield a row for each precision."""
    side = fit_side(options.size, written_side(model))
    known = by_name(model)
    weights = options.weights.get(model) or shipped_weights(known)
    subject = Subject(model, Settings("cpu", size=side), weights)
    images = pictures(paths, side, options.count)
    expected = []
    for image in images:
        subject.fill(subject.net, [image])
        subject.net.run()
        expected.append((subject.net.blobs[subject.scores].data[0].copy(), subject.labels(subject.net)[0]))
    for precision in options.precisions:
        net = subject.make(options.device, precision)
        apart = equal = 0.0
        for image, (scores, labels) in zip(images, expected):
            subject.fill(net, [image])
            net.run()
            largest = float(abs(scores).max()) or 1.0
            apart = max(apart, float(abs(net.blobs[subject.scores].data[0] - scores).max()) / largest)
            equal += float((subject.labels(net)[0] == labels).mean()) / len(images)
        good = apart <= LARGEST[precision] and (weights is None or precision == "tf32" or equal >= EQUAL_LABELS)
        yield {"model": model, "precision": precision, "size": side, "weights": str(weights) if weights else "random",
               "images": len(images), "photographs": bool(paths), "largest_relative_difference": apart,
               "equal_labels": equal, "good": good}
        del net


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print a table; 1 where something differs, 2 without a device."""
    from atrouscaffe.cli.options import pairs
    from atrouscaffe.runtime.backend import get_backend

    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", type=lambda text: text.split(","), default=[*METHODS, EMBEDDED])
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=["fp32", "tf32", "fp16"])
    parser.add_argument("--size", type=int, default=306, help="side of the images, to the next 8 pixels (306)")
    parser.add_argument("--count", type=int, default=4, help="how many photographs (4)")
    parser.add_argument("--photographs", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--weights", action="append", default=[], metavar="MODEL=FILE", help="trained weights")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    try:
        options.weights = pairs(options.weights, "--weights")
        backend = get_backend(options.device)
        paths = photographs(options.photographs, options.count)
        print(f"{backend.name} against the CPU, "
              + (f"{len(paths)} photographs" if paths else f"{options.count} drawn pictures"))
        print(f"{'model':<24}{'precision':>10}{'weights':>10}{'scores differ':>15}{'labels equal':>14}")
        for model in options.models:
            for row in compare(model, options, paths):
                rows.append(row)
                print(f"{model:<24}{row['precision']:>10}{'random' if row['weights'] == 'random' else 'trained':>10}"
                      f"{row['largest_relative_difference']:>15.1e}{row['equal_labels']:>14.3%}"
                      f"{'' if row['good'] else '  <- too far'}", flush=True)
    except AtrousCaffeError as error:
        print(f"gpu_parity: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    bad = sum(not row["good"] for row in rows)
    print(f"{bad} of {len(rows)} comparisons are too far apart" if bad else f"all {len(rows)} comparisons agree")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
