"""Figures of one set of predictions: over everything, in bands along borders, and image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.metrics import Bands, ConfusionMatrix, boundary_distance, void_distance

__all__ = ["DISTANCE_WIDTHS", "WIDEST", "Distances", "Evaluation", "Scored", "score"]

DISTANCE_WIDTHS = (1, 2, 4, 8, 16, 32)
"""Widths of the bands by distance that tables show."""
WIDEST = 40
"""Widest band that is counted, as in the paper's Fig. 5."""
DEFINITIONS = ("distance", "void")


@dataclass(frozen=True)
class Distances:
    """Distances of an image's pixels to its borders, by both definitions.

    Attributes
    ----------
    distance, void : (H, W) float32
        Of `boundary_distance` and `void_distance`.
    """

    distance: np.ndarray
    void: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray) -> Distances:
        """Measure one label map."""
        return cls(boundary_distance(truth), void_distance(truth))


class Scored:
    """Counts of one image under one set of predictions."""

    def __init__(self, matrix: ConfusionMatrix, bands: dict[str, Bands]) -> None:
        self.matrix, self.bands = matrix, bands

    def summary(self) -> dict[str, float | None]:
        """Return pixel accuracy and the mean IoU over the classes that the image's truth has, in per cent."""
        return {"pixel_accuracy": percent(self.matrix.pixel_accuracy),
                "mean_iou": percent(self.matrix.mean_iou("skip"))}


def score(truth: np.ndarray, prediction: np.ndarray, classes: int, distances: Distances | None) -> Scored:
    """Count one image.

    Raises
    ------
    DataError
        The prediction is not of the truth's size, or a label is out of range.
    """
    matrix = ConfusionMatrix(classes)
    matrix.update(truth, prediction)
    bands = {}
    if distances is not None:
        for name in DEFINITIONS:
            bands[name] = Bands(classes, WIDEST)
            bands[name].update(truth, prediction, getattr(distances, name))
    return Scored(matrix, bands)


class Evaluation:
    """Confusion matrices of one set of predictions: everywhere, and in bands along borders.

    Parameters
    ----------
    names : sequence of str
        Classes, in order.
    trimap : bool
        Whether bands are counted.
    """

    def __init__(self, names: Sequence[str], trimap: bool = True) -> None:
        self.names = tuple(names)
        self.matrix = ConfusionMatrix(len(self.names))
        self.bands = {name: Bands(len(self.names), WIDEST) for name in (DEFINITIONS if trimap else ())}

    def add(self, scored: Scored) -> None:
        """Add one image."""
        self.matrix += scored.matrix
        for name, bands in self.bands.items():
            bands += scored.bands[name]

    def summary(self) -> dict[str, Any]:
        """Return the figures in per cent, as plain data; None stands for what has no value.

        ``trimap`` holds the bands by distance that tables show; ``curves`` both definitions at every
        width from 1 pixel.
        """
        matrices = {name: bands.matrices() for name, bands in self.bands.items()}
        shown = matrices.get("distance", [])
        return figures(self.matrix, self.names) | {
            "trimap": {str(width): _band(shown[width - 1]) for width in DISTANCE_WIDTHS if shown},
            "curves": {name: {key: [_band(matrix)[key] for matrix in found] for key in ("mean_iou", "pixel_accuracy")}
                       for name, found in matrices.items()},
            "confusion": self.matrix.counts.tolist()}


def _band(matrix: ConfusionMatrix) -> dict[str, Any]:
    return {"mean_iou": percent(matrix.mean_iou()), "mean_iou_present": percent(matrix.mean_iou("skip")),
            "pixel_accuracy": percent(matrix.pixel_accuracy), "pixels": matrix.pixels}


def percent(value: float) -> float | None:
    """Return a share in per cent, None for NaN."""
    return None if np.isnan(value) else round(100 * float(value), 3)


def figures(matrix: ConfusionMatrix, names: Sequence[str]) -> dict[str, Any]:
    """Return every figure of a confusion matrix, in per cent."""
    return {
        "mean_iou": percent(matrix.mean_iou()),
        "mean_iou_devkit": percent(matrix.mean_iou("nan")),
        "mean_iou_present": percent(matrix.mean_iou("skip")),
        "pixel_accuracy": percent(matrix.pixel_accuracy),
        "mean_accuracy": percent(matrix.mean_accuracy),
        "frequency_weighted_iou": percent(matrix.frequency_weighted_iou),
        "pixels": matrix.pixels,
        "absent": [name for name, there in zip(names, matrix.present) if not there],
        "iou": {name: percent(value) for name, value in zip(names, matrix.iou)},
        "accuracy": {name: percent(value) for name, value in zip(names, matrix.class_accuracy)},
    }
