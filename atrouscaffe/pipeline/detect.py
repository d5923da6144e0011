"""Find objects in photographs by a net that ends in DetectionOutput, and draw their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.data.image import resize_image
from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats.labelmap import read_label_map
from atrouscaffe.net import Net
from atrouscaffe.ops.pixels import image_to_blob
from atrouscaffe.spec import TEST

__all__ = ["Detection", "Detector"]


@dataclass(frozen=True)
class Detection:
    """One object: its class, its score, and its box (xmin, ymin, xmax, ymax) in pixels, cut to the image."""

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]


class Detector:
    """A detector of SSD's kind as a function of images.

    Parameters
    ----------
    prototxt : path, str or NetSpec
        A deploy net with one input of three channels and a DetectionOutput layer.
    weights : path or sequence of path, optional
    device, precision
        As `atrouscaffe.net.Net` takes them.
    mean : float or sequence of float
        Subtracted from each channel, B, G, R.
    scale : float
        Applied after the mean.
    label_map : path, optional
        ``item { name label display_name }``; without it classes are named by number.
    variables, dialect, weights_dialect, proto, allow_missing, allow_paths
        As `atrouscaffe.net.Net` takes them.

    Raises
    ------
    ArgumentError
        A net of another kind; neither weights nor `allow_missing`; numbers that cannot be.

    Examples
    --------
    >>> detector = Detector("deploy.prototxt", "ssd.caffemodel", mean=(104, 117, 123))  # doctest: +SKIP
    >>> detector(cv2.imread("street.jpg"), threshold=0.6)  # doctest: +SKIP
    [Detection(label=7, name='car', score=0.93, box=(12.1, 40.0, 201.5, 160.2))]
    """

    def __init__(self, prototxt: Any, weights: Any = None, device: str = "cpu", *, precision: str = "fp32",
                 mean: float | Sequence[float] = 0.0, scale: float = 1.0, label_map: str | Path | None = None,
                 variables: Mapping[str, str] | None = None, dialect: str | None = None,
                 weights_dialect: str | None = None, proto: str | Path | None = None, allow_missing: bool = False,
                 allow_paths: Sequence[str | Path] = ()) -> None:
        if weights is None and not allow_missing:
            raise ArgumentError("weights: expected a caffemodel, got none")
        self.net = Net(prototxt, TEST, weights=weights, variables=variables, dialect=dialect, proto=proto,
                       weights_dialect=weights_dialect, allow_missing=allow_missing, device=device,
                       precision=precision, allow_paths=allow_paths, seed=0)
        tops = [node.spec.tops[0] for node in self.net.graph.nodes if node.spec.type == "DetectionOutput"]
        inputs = self.net.inputs
        if len(tops) != 1 or len(inputs) != 1 or len(self.net.blobs[inputs[0]].shape) != 4 \
                or self.net.blobs[inputs[0]].shape[:2] != (1, 3):
            raise ArgumentError("expected a deploy net with one input of shape (1, 3, height, width) and one "
                                f"DetectionOutput, got inputs {', '.join(inputs) or 'none'} and {len(tops)} of those",
                                self.net.spec.path)
        self._input, self._top = self.net.blobs[inputs[0]], tops[0]
        values = np.atleast_1d(np.asarray(mean, np.float32))
        if values.ndim != 1 or values.size not in (1, 3) or not np.isfinite([*values, scale]).all() or scale == 0:
            raise ArgumentError(f"mean, scale: expected one finite number or 3, and a finite one other than 0, got "
                                f"{values.tolist()} and {scale}")
        self._mean, self._scale = self.net.backend.asarray(np.broadcast_to(values, 3).copy()), float(scale)
        labels = read_label_map(label_map) if label_map is not None else ()
        self.names = {label.label: label.display_name or label.name for label in labels}

    def __call__(self, image: np.ndarray, threshold: float = 0.5) -> list[Detection]:
        """Return the objects of an image (H, W, 3) uint8, B, G, R, whose score is at least `threshold`, best first."""
        height, width = image.shape[:2]
        there = self.net.backend.asarray(resize_image(image, *self._input.shape[2:]))
        image_to_blob(there, self._mean, self._input.array, self._scale)
        self.net.forward()
        rows = self.net.blobs[self._top].data.reshape(-1, 7)
        found = []
        for _, label, score, *corners in rows[(rows[:, 1] >= 0) & (rows[:, 2] >= threshold)].tolist():
            box = np.clip(corners, 0, 1) * [width, height, width, height]
            found.append(Detection(int(label), self.names.get(int(label), f"class {int(label)}"), float(score),
                                   (float(box[0]), float(box[1]), float(box[2]), float(box[3]))))
        return sorted(found, key=lambda each: -each.score)
