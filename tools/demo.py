#!/usr/bin/env python3
"""Refine a scribbled photograph with the fully connected CRF: what ``make demo`` runs.

A few strokes on the photograph of an astronaut (it comes with scikit-image) say background, flag,
person and shuttle; the CRF gives every other pixel a label from its position and colour. One picture is
written: the strokes on the left, the result on the right.

    python tools/demo.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.crf.unary import from_scribbles
from atrouscaffe.data.image import read_image
from atrouscaffe.errors import AtrousCaffeError, DependencyError, FileAccessError
from atrouscaffe.formats.atomic import atomic_write

UNSURE = 255
WIDTH_PX = 7
LABELS = (  # name, colour (B, G, R), strokes as lists of (x, y)
    ("background", (170, 170, 170), [[(110, 30), (105, 150)], [(330, 20), (330, 230)], [(490, 20), (490, 240)],
                                      [(390, 305), (500, 295)], [(375, 335), (390, 320)]]),
    ("flag", (60, 60, 220), [[(20, 20), (15, 150), (70, 175)], [(10, 180), (15, 330)], [(5, 400), (15, 500)],
                             [(85, 130), (60, 210)]]),
    ("person", (60, 200, 60), [[(175, 60), (225, 30), (280, 70)], [(220, 110), (220, 170), (215, 215)],
                               [(140, 170), (140, 230), (230, 275), (290, 230)], [(90, 260), (80, 440), (180, 480)],
                               [(255, 310), (255, 480)], [(310, 260), (330, 320)], [(160, 380), (210, 400)],
                               [(310, 430), (400, 400), (470, 450)], [(330, 370), (430, 360), (490, 440)],
                               [(350, 420), (355, 450)], [(420, 480), (495, 490)]]),
    ("shuttle", (220, 130, 40), [[(420, 30), (420, 230)], [(400, 90), (385, 230)], [(445, 70), (445, 230)],
                                 [(375, 270), (440, 270)]]),
)
SIGMA_POSITION_PX, SIGMA_XY_PX, SIGMA_RGB, ITERATIONS = 3, 60, 10, 10
POSITION_WEIGHT, BILATERAL_WEIGHT = 3, 10


def photograph() -> np.ndarray:
    """Return the astronaut, (512, 512, 3) uint8 BGR."""
    try:
        import skimage
    except ImportError:
        raise DependencyError("the demo's photograph comes with scikit-image, which is not installed; install it with "
                              "pip install 'atrouscaffe[demo]', or run make demo") from None
    return read_image(Path(skimage.__file__).parent / "data" / "astronaut.png")


def scribbles(height: int, width: int) -> np.ndarray:
    """Return the strokes as a label map, (H, W) uint8, `UNSURE` between them."""
    strokes = np.full((height, width), UNSURE, np.uint8)
    for label, (_, _, lines) in enumerate(LABELS):
        for line in lines:
            cv2.polylines(strokes, [np.array(line, np.int32)], False, label, WIDTH_PX)
    return strokes


def refine(image: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Return the label of every pixel, (H, W) uint8."""
    crf = DenseCRF(from_scribbles(strokes, len(LABELS), confidence=0.99, unsure=UNSURE))
    crf.add_gaussian(SIGMA_POSITION_PX, POSITION_WEIGHT)
    crf.add_bilateral(image[..., ::-1], SIGMA_XY_PX, SIGMA_RGB, BILATERAL_WEIGHT)
    return crf.infer(ITERATIONS).labels


def picture(image: np.ndarray, strokes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return strokes and result side by side with a legend, (H, W, 3) uint8 BGR."""
    colors = np.array([color for _, color, _ in LABELS], np.uint8)
    left = image.copy()
    left[strokes != UNSURE] = colors[strokes[strokes != UNSURE]]
    right = (image * 0.4 + colors[labels] * 0.6).astype(np.uint8)
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    right[edges] = 255
    legend = np.full((36, 2 * image.shape[1], 3), 32, np.uint8)
    for i, (name, color, _) in enumerate(LABELS):
        cv2.rectangle(legend, (16 + 160 * i, 10), (36 + 160 * i, 26), color, -1)
        cv2.putText(legend, name, (44 + 160 * i, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([np.hstack([left, right]), legend])


def save(path: Path, image: np.ndarray) -> None:
    """Write a PNG whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(f"cannot be made: {error.strerror}", str(path.parent)) from None
    with atomic_write(path) as file:
        file.write(cv2.imencode(".png", image)[1].tobytes())


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description="Refine a scribbled photograph with the fully connected CRF.")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the picture (demo-output)")
    options = parser.parse_args(argv)
    try:
        image = photograph()
        strokes = scribbles(*image.shape[:2])
        known = np.count_nonzero(strokes != UNSURE) / strokes.size
        print(f"An astronaut, {image.shape[1]}x{image.shape[0]} pixels; strokes label {known:.1%} of them as "
              f"{', '.join(name for name, _, _ in LABELS)}.")
        print(f"Refining with the fully connected CRF, {ITERATIONS} mean-field iterations "
              "(the very first run compiles it, which takes some seconds) ...", flush=True)
        start = time.perf_counter()
        labels = refine(image, strokes)
        seconds = time.perf_counter() - start
        path = options.out / "scribbles-refined.png"
        save(path, picture(image, strokes, labels))
    except AtrousCaffeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    shares = np.bincount(labels.ravel(), minlength=len(LABELS)) / labels.size
    found = ", ".join(f"{name} {share:.0%}" for (name, _, _), share in zip(LABELS, shares))
    print(f"Done in {seconds:.2f} s: {found}")
    print(f"Left the strokes, right the result: {path.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
