"""Scores of a model over a list of images with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import explain_values, read_labels
from atrouscaffe.data.prefetch import Prefetch
from atrouscaffe.data.voc import Sample
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError
from atrouscaffe.metrics import ConfusionMatrix, boundary_distance, trimap_band
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.runtime.threads import num_threads

__all__ = ["DISTANCE_WIDTHS", "Evaluation", "Report", "evaluate"]

DISTANCE_WIDTHS = (1, 2, 4, 8, 16, 32)


class Evaluation:
    """Confusion matrices of one set of predictions: everywhere, and in bands along borders.

    Parameters
    ----------
    names : sequence of str
        Classes, in order.
    trimap : {"distance", "void"} or None
        Bands by distance from any border (`boundary_distance`), or the authors' (`trimap_band`).
    widths : sequence of int
        Of the bands, in pixels.
    """

    def __init__(self, names: Sequence[str], trimap: str | None = "distance",
                 widths: Sequence[int] = DISTANCE_WIDTHS) -> None:
        if trimap not in (None, "distance", "void"):
            raise ArgumentError(f"trimap: expected 'distance', 'void' or None, got {trimap!r}")
        self.names, self.trimap = tuple(names), trimap
        self.matrix = ConfusionMatrix(len(self.names))
        self.bands = {width: ConfusionMatrix(len(self.names)) for width in (widths if trimap else ())}

    def bands_of(self, truth: np.ndarray) -> dict[int, np.ndarray]:
        """Return the mask of each band for one label map."""
        if self.trimap == "void":
            return {width: trimap_band(truth, width) for width in self.bands}
        if not self.bands:
            return {}
        distance = boundary_distance(truth)
        return {width: distance <= width for width in self.bands}

    def add(self, truth: np.ndarray, prediction: np.ndarray, bands: dict[int, np.ndarray] | None = None) -> float:
        """Count one image and return its pixel accuracy; `bands` are `bands_of` the same label map."""
        one = ConfusionMatrix(len(self.names))
        one.update(truth, prediction)
        for width, mask in (self.bands_of(truth) if bands is None else bands).items():
            self.bands[width].update(truth, prediction, mask)
        self.matrix += one
        return one.pixel_accuracy

    def summary(self) -> dict[str, Any]:
        """Return the figures in per cent, as plain data; None stands for a class that is nowhere."""
        return _figures(self.matrix, self.names) | {
            "trimap": {str(width): {k: v for k, v in _figures(matrix, self.names).items() if k in _BAND_KEYS}
                       for width, matrix in self.bands.items()},
            "confusion": self.matrix.counts.tolist()}


_BAND_KEYS = ("mean_iou", "mean_iou_present", "pixel_accuracy", "pixels")


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * float(value), 3)


def _figures(matrix: ConfusionMatrix, names: Sequence[str]) -> dict[str, Any]:
    return {
        "mean_iou": _percent(matrix.mean_iou()),
        "mean_iou_devkit": _percent(matrix.mean_iou("nan")),
        "mean_iou_present": _percent(matrix.mean_iou("skip")),
        "pixel_accuracy": _percent(matrix.pixel_accuracy),
        "mean_accuracy": _percent(matrix.mean_accuracy),
        "frequency_weighted_iou": _percent(matrix.frequency_weighted_iou),
        "pixels": matrix.pixels,
        "absent": [name for name, there in zip(names, matrix.present) if not there],
        "iou": {name: _percent(value) for name, value in zip(names, matrix.iou)},
    }


@dataclass
class Report:
    """What `evaluate` found.

    Attributes
    ----------
    evaluations : dict of str to Evaluation
        ``"plain"``, and ``"crf"`` where there was one.
    per_image : dict of str to dict
        Pixel accuracy in per cent of each image, by evaluation.
    failed : list of str
        What went wrong with images that were left out.
    """

    evaluations: dict[str, Evaluation]
    per_image: dict[str, dict[str, float | None]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        names = next(iter(self.evaluations.values())).names
        return {"images": len(self.per_image), "class_order": list(names),
                **{name: evaluation.summary() for name, evaluation in self.evaluations.items()},
                "per_image": self.per_image, "failed": self.failed}


def _load(sample: Sample, classes: int) -> tuple[np.ndarray, np.ndarray] | str:
    """Return image and truth, or what is wrong with them."""
    try:
        image = read_image(sample.image)
        if sample.label is None:
            raise DataError("no label map", str(sample.image))
        truth = read_labels(sample.label)
        if truth.shape != image.shape[:2]:
            raise DataError(f"label map of {truth.shape[1]}x{truth.shape[0]} pixels, but its image has "
                            f"{image.shape[1]}x{image.shape[0]}", str(sample.label))
        wrong = explain_values(truth, classes)
        if wrong:
            raise DataError(wrong, str(sample.label))
        return image, truth
    except AtrousCaffeError as error:
        return str(error)


def evaluate(segmenter: Segmenter, samples: Sequence[Sample], *, trimap: str | None = "distance",
             widths: Sequence[int] = DISTANCE_WIDTHS,
             progress: Callable[[int, Report], object] | None = None) -> Report:
    """Run a model over images and score it, without and, where it has one, with its CRF.

    Parameters
    ----------
    segmenter : Segmenter
    samples : sequence of Sample
    trimap, widths
        See `Evaluation`.
    progress : callable of (int, Report), optional
        Called behind each image with the number of images done.

    Returns
    -------
    Report
        Images that cannot be used are listed in `failed` and left out.
    """
    kinds = ["plain"] + (["crf"] if segmenter.crf is not None else [])
    report = Report({kind: Evaluation(segmenter.names, trimap, widths) for kind in kinds})
    source = Prefetch(lambda _, row: _load(samples[row], segmenter.classes) if row < len(samples) else "",
                      lambda index: index, ahead=4, workers=min(2, num_threads()))
    try:
        for done, sample in enumerate(samples, 1):
            loaded = source.take()
            if isinstance(loaded, str):
                report.failed.append(loaded)
            else:
                _score(segmenter, sample, *loaded, report)
            if progress is not None:
                progress(done, report)
    finally:
        source.close()
    return report


def _score(segmenter: Segmenter, sample: Sample, image: np.ndarray, truth: np.ndarray, report: Report) -> None:
    try:
        result = segmenter(image)
    except AtrousCaffeError as error:
        report.failed.append(f"{sample.image}: {error}")
        return
    bands = report.evaluations["plain"].bands_of(truth)
    found = {}
    for kind, evaluation in report.evaluations.items():
        labels = result.labels if kind == "crf" or segmenter.crf is None else result.scores.argmax(0)
        found[kind] = _percent(evaluation.add(truth, labels, bands))
    report.per_image[sample.id] = found
