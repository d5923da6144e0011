"""Draw the pictures of ``docs/crf.md``: what each CRF parameter does, on a free photograph of scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage import data, transform

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.crf.unary import from_scribbles
from atrouscaffe.data.image import resize_image
from atrouscaffe.data.overlay import encode_picture, overlay
from atrouscaffe.formats.atomic import atomic_write

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "img"
BASE = {"sigma_xy": 60, "sigma_rgb": 10, "weight": 6, "position_sigma": 3, "position_weight": 3,
        "normalization": "after", "iterations": 10}
STRIPS = {"sigma_xy": (10, 60, 300), "sigma_rgb": (3, 10, 40), "weight": (1, 6, 30), "position_sigma": (1, 3, 15),
          "position_weight": (0.5, 3, 20), "normalization": ("after", "symmetric", "none"), "iterations": (0, 2, 10)}


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return a small photograph (RGB) and scribbles of two labels on it (255 elsewhere)."""
    image = transform.resize(data.astronaut()[:420, :420], (140, 140), anti_aliasing=True)
    scribbles = np.full((140, 140), 255, np.uint8)
    scribbles[20:60, 66:84] = 1  # face
    scribbles[95:130, 50:90] = 1  # suit
    scribbles[4:40, 4:20] = 0
    scribbles[4:60, 120:136] = 0
    return (255 * image).round().astype(np.uint8), scribbles


def refined(image: np.ndarray, scribbles: np.ndarray, **changes: float | str) -> np.ndarray:
    """Return the labels with one parameter changed."""
    p = BASE | changes
    weak = np.random.default_rng(0).normal(scale=0.3, size=(2, *scribbles.shape))  # so that nothing is quite undecided
    crf = DenseCRF(from_scribbles(scribbles, 2, 0.9) + weak)
    scale = 0.02 if p["normalization"] == "none" else 1.0
    crf.add_gaussian(p["position_sigma"], scale * p["position_weight"], normalization=p["normalization"])
    crf.add_bilateral(image, p["sigma_xy"], p["sigma_rgb"], scale * p["weight"], normalization=p["normalization"])
    return crf.infer(p["iterations"]).labels


def main() -> None:
    """Write one strip a parameter: its smallest, usual and largest value, from left to right."""
    import cv2

    image, scribbles = scene()
    FOLDER.mkdir(exist_ok=True)
    for name, values in STRIPS.items():
        tiles = []
        for value in values:
            labels = refined(image, scribbles, **{name: value})
            tile = overlay(np.ascontiguousarray(image[:, :, ::-1]), labels, ("", ""), alpha=0.6, legend=False)
            tile = resize_image(tile, 150, 150)
            head = np.full((24, 150, 3), 255, np.uint8)
            cv2.putText(head, f"{name} = {value}", (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (0, 0, 0), 1, cv2.LINE_AA)
            tiles += [np.concatenate([head, tile]), np.full((174, 6, 3), 255, np.uint8)]
        with atomic_write(FOLDER / f"crf_{name}.png") as file:
            file.write(encode_picture(np.concatenate(tiles[:-1], axis=1)))


if __name__ == "__main__":
    main()
