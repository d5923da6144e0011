#!/usr/bin/env python3
"""Segment a cat and an astronaut with the embedded model: the first half of ``make demo``.

Both photographs come with scikit-image. One picture is written (photograph, net alone, net and CRF), and
a small HTML page around it.

    python tools/demo_photographs.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import html
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from atrouscaffe.data.image import read_image
from atrouscaffe.data.overlay import encode_picture, overlay
from atrouscaffe.errors import AtrousCaffeError, DependencyError, FileAccessError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.pipeline.segment import Segmenter

PHOTOGRAPHS = (("chelsea.png", "a cat"), ("astronaut.png", "an astronaut"))
HEIGHT_PX, CAPTION_PX, GAP_PX = 300, 26, 8
CAPTIONS = ("photograph", "the net alone", "net and CRF")
BORDER = (255, 255, 255)
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>atrouscaffe: two photographs</title>
<style>body {{ font-family: sans-serif; margin: 2em; max-width: 70em; }} img {{ max-width: 100%; }}
table {{ border-collapse: collapse; }} td, th {{ padding: 0.3em 1em; text-align: left; }}</style></head><body>
<h1>Two photographs, segmented by the embedded model</h1>
<img src="{picture}" alt="photograph, net alone, net and CRF">
<table><tr><th>photograph</th><th>net alone</th><th>net and CRF</th><th>seconds</th></tr>
{rows}</table>
<p>Shares of the picture by class; the rest is background. Model: {model}; CRF: {crf}.</p>
</body></html>
"""


class Result(NamedTuple):
    """One photograph and what was found in it."""

    name: str
    image: np.ndarray
    plain: np.ndarray
    refined: np.ndarray
    seconds: float


def photograph(name: str) -> np.ndarray:
    """Return one of scikit-image's photographs, (H, W, 3) uint8 BGR."""
    try:
        import skimage
    except ImportError:
        raise DependencyError("the demo's photographs come with scikit-image, which is not installed; install it with "
                              "pip install 'atrouscaffe[demo]', or run make demo") from None
    return read_image(Path(skimage.__file__).parent / "data" / name)


def segment(segmenter: Segmenter, name: str, image: np.ndarray) -> Result:
    """Segment one photograph without and with the CRF; `segmenter` has one."""
    start = time.perf_counter()
    found = segmenter(image)
    return Result(name, image, found.scores.argmax(0).astype(np.uint8), found.labels, time.perf_counter() - start)


def outlined(image: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return the photograph under its labels' colours, with white borders, in the picture's height."""
    scale = HEIGHT_PX / image.shape[0]
    size = (round(image.shape[1] * scale), HEIGHT_PX)
    shown = overlay(image, labels, names, alpha=0.5, legend=False)
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    shown[cv2.dilate(edges.astype(np.uint8), np.ones((2, 2), np.uint8)) > 0] = BORDER
    return cv2.resize(shown, size, interpolation=cv2.INTER_AREA)


def picture(results: list[Result], names: tuple[str, ...]) -> np.ndarray:
    """Return all results as one picture, a row for each photograph, (H, W, 3) uint8 BGR."""
    rows = []
    for result in results:
        size = (round(result.image.shape[1] * HEIGHT_PX / result.image.shape[0]), HEIGHT_PX)
        plain = cv2.resize(result.image, size, interpolation=cv2.INTER_AREA)
        parts = [plain, *(outlined(result.image, labels, names) for labels in (result.plain, result.refined))]
        found = ("", describe(result.plain, names), describe(result.refined, names))
        rows.append([captioned(part, caption + (f": {what}" if what else ""))
                     for part, caption, what in zip(parts, CAPTIONS, found)])
    width = max(sum(part.shape[1] + GAP_PX for part in row) for row in rows) + GAP_PX
    lines = []
    for row in rows:
        line = np.full((row[0].shape[0] + GAP_PX, width, 3), 255, np.uint8)
        x = GAP_PX
        for part in row:
            line[:part.shape[0], x:x + part.shape[1]] = part
            x += part.shape[1] + GAP_PX
        lines.append(line)
    return np.vstack(lines)


def captioned(part: np.ndarray, text: str) -> np.ndarray:
    """Return a part with a line of text above it."""
    strip = np.full((CAPTION_PX, part.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (2, CAPTION_PX - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([strip, part])


def describe(labels: np.ndarray, names: tuple[str, ...]) -> str:
    """Return the classes that fill at least one per cent, the largest first."""
    shares = np.bincount(labels.ravel(), minlength=len(names)) / labels.size
    order = [i for i in np.argsort(-shares) if i and shares[i] >= 0.01]
    return ", ".join(f"{names[i]} {shares[i]:.0%}" for i in order) or "nothing"


def page(results: list[Result], segmenter: Segmenter, name: str) -> str:
    """Return the HTML page around the picture `name`."""
    rows = "".join(
        f"<tr><td>{html.escape(r.name)}, {r.image.shape[1]}x{r.image.shape[0]}</td>"
        f"<td>{html.escape(describe(r.plain, segmenter.names))}</td>"
        f"<td>{html.escape(describe(r.refined, segmenter.names))}</td>"
        f"<td>{r.seconds:.2f}</td></tr>\n" for r in results)
    model = segmenter.model.title if segmenter.model else segmenter.net.name
    return PAGE.format(picture=html.escape(name), rows=rows, model=html.escape(model),
                       crf=html.escape(", ".join(f"{k} {v}" for k, v in (segmenter.crf or {}).items())))


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(f"cannot be made: {error.strerror}", str(path.parent)) from None
    with atomic_write(path) as file:
        file.write(content)


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description="Segment two photographs with the embedded model.")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the results (demo-output)")
    options = parser.parse_args(argv)
    try:
        segmenter = Segmenter(crf=True)
        print("Segmenting two photographs with the embedded model, without and with the CRF "
              "(the very first run compiles, which takes some seconds) ...", flush=True)
        results = []
        for file, name in PHOTOGRAPHS:
            results.append(segment(segmenter, name, photograph(file)))
            print(f"{name}: {describe(results[-1].refined, segmenter.names)} "
                  f"({results[-1].seconds:.2f} s)", flush=True)
        image, text = options.out / "photographs.png", options.out / "index.html"
        save(image, encode_picture(picture(results, segmenter.names)))
        save(text, page(results, segmenter, image.name).encode())
    except AtrousCaffeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"The picture: {image.resolve()}\nThe page:    {text.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
