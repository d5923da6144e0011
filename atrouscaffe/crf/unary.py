"""Unary energies from what is known about the labels: probabilities, scores, labels, scribbles, boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import ArgumentError

__all__ = ["from_boxes", "from_labels", "from_probabilities", "from_scores", "from_scribbles"]


def _real(values: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def from_probabilities(probabilities: np.ndarray, *, clip: float | None = 1e-5, labels_axis: int = 0) -> np.ndarray:
    """Return -log p.

    Parameters
    ----------
    probabilities : (L, H, W)
        Need not sum to 1: a constant at a point cancels.
    clip : float or None
        Smallest probability, as pydensecrf's 1e-5; None lets 0 forbid a label (energy +inf), as
        the original programs did.
    labels_axis : int
        Axis of the labels, at which not all may be 0.

    Raises
    ------
    ArgumentError
        Values that are NaN, negative or infinite, or a clip outside [0, 1).
    """
    array = _real(probabilities, "probabilities")
    if array.ndim == 0 or array.size == 0:
        raise ArgumentError(f"probabilities: expected shape (L, H, W) with no size of 0, got {array.shape}")
    array = array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high < math.inf):
        raise ArgumentError(f"probabilities: expected finite numbers of at least 0, got {low} … {high}")
    if clip is not None:
        if not 0 <= clip < 1:
            raise ArgumentError(f"clip: expected a number of at least 0 and below 1, got {clip}")
        np.maximum(array, np.float32(clip), out=array)
    if not clip and (array.max(axis=labels_axis) == 0).any():
        raise ArgumentError("probabilities: expected at every point a label above 0, got a point where all are 0")
    with np.errstate(divide="ignore"):
        np.log(array, out=array)
    return np.negative(array, out=array)


def from_scores(scores: np.ndarray) -> np.ndarray:
    """Return -scores: the softmax's constant cancels, so no softmax is needed (``refine_pascal_v4``)."""
    return np.negative(_real(scores, "scores"), dtype=np.float32)


def _confidence(confidence: float | Sequence[float] | np.ndarray, labels: int) -> np.ndarray:
    values = np.asarray(confidence, np.float64)
    if values.shape not in ((), (labels,)):
        raise ArgumentError(f"confidence: expected one number or {labels}, one a label, got shape {values.shape}")
    values = np.broadcast_to(values, (labels,))
    if not ((values > 0) & (values < 1)).all():
        raise ArgumentError(f"confidence: expected probabilities above 0 and below 1, got {confidence}")
    return values


def from_labels(labels: np.ndarray, n_labels: int, confidence: float | Sequence[float] = 0.7, *,
                unsure: int | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Return energies of a label map of which each label is right with probability `confidence`.

    Parameters
    ----------
    labels : (H, W) of integers
        Labels 0 … n_labels-1; 0 is a label like any other.
    n_labels : int
    confidence : float or (L,) sequence
        Probability that a point labelled so is so; the others share the rest.
    unsure : int, sequence of int or (H, W) bool, optional
        Values, or points, that mean "unknown": all labels are equally likely there.

    Returns
    -------
    (L, H, W) float32
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "iub" or array.size == 0:
        raise ArgumentError(f"labels: expected an array of whole numbers, got dtype {array.dtype}, shape {array.shape}")
    if isinstance(n_labels, bool) or not isinstance(n_labels, (int, np.integer)) or n_labels < 1:
        raise ArgumentError(f"n_labels: expected a whole number of at least 1, got {n_labels!r}")
    array = array.astype(np.int64)
    if unsure is None:
        unknown = np.zeros(array.shape, bool)
    elif np.asarray(unsure).dtype == bool:
        unknown = np.asarray(unsure)
        if unknown.shape != array.shape:
            raise ArgumentError(f"unsure: expected the labels' shape {array.shape}, got {unknown.shape}")
    else:
        unknown = np.isin(array, np.atleast_1d(np.asarray(unsure, np.int64)))
    known = array[~unknown]
    if known.size and not (known.min() >= 0 and known.max() < n_labels):
        raise ArgumentError(f"labels: expected values 0 … {n_labels - 1}, got {known.min()} … {known.max()}; "
                            "name values that mean unknown with unsure=")
    if n_labels == 1:
        return np.zeros((1, *array.shape), np.float32)
    sure = _confidence(confidence, n_labels)
    table = np.empty((n_labels + 1, n_labels), np.float32)  # energies by what the map says
    table[:n_labels] = -np.log((1 - sure) / (n_labels - 1))[:, None]
    table[range(n_labels), range(n_labels)] = -np.log(sure)
    table[n_labels] = math.log(n_labels)
    said = np.where(unknown, n_labels, array)
    return np.ascontiguousarray(np.moveaxis(table[said], -1, 0))


def from_scribbles(scribbles: np.ndarray, n_labels: int, confidence: float | Sequence[float] = 0.9, *,
                   unsure: int = 255) -> np.ndarray:
    """Return energies of a map that is labelled at a few points and `unsure` at the others."""
    return from_labels(scribbles, n_labels, confidence, unsure=unsure)


def from_boxes(shape: Sequence[int], boxes: Sequence[tuple[int, int, int, int, int]], n_labels: int,
               confidence: float = 0.7, *, background: int = 0) -> np.ndarray:
    """Return energies from boxes around objects.

    Parameters
    ----------
    shape : (H, W)
    boxes : sequence of (label, left, top, right, bottom)
        In pixels; right and bottom are the first column and row outside.
    n_labels : int
    confidence : float
        Outside all boxes, probability of the background. Inside boxes, probability that the boxes'
        labels share; the background takes all of the rest.
    background : int

    Returns
    -------
    (L, H, W) float32
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ArgumentError(f"shape: expected (H, W) of at least 1, got {tuple(shape)}")
    if n_labels < 2 or not 0 <= background < n_labels:
        raise ArgumentError(f"background: expected one of at least 2 labels 0 … {n_labels - 1}, got {background}")
    sure = float(_confidence(confidence, n_labels)[0])
    inside = np.zeros((n_labels, *shape), np.float32)
    for label, left, top, right, bottom in boxes:
        if not 0 <= label < n_labels or label == background:
            raise ArgumentError(f"boxes: expected labels 0 … {n_labels - 1} other than the background {background}, "
                                f"got {label}")
        if not (0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]):
            raise ArgumentError(f"boxes: expected 0 <= left < right <= {shape[1]} and 0 <= top < bottom <= {shape[0]}, "
                                f"got {(left, top, right, bottom)}")
        inside[label, top:bottom, left:right] = 1
    covered = inside.sum(axis=0)
    out = np.full((n_labels, *shape), (1 - sure) / (n_labels - 1), np.float32)
    out[background][covered == 0] = sure
    some = covered > 0
    share = inside[:, some] / covered[some]
    floor = 1e-3 * (1 - sure) / n_labels
    values = np.maximum(share * sure, floor)
    values[background] = 1 - sure
    out[:, some] = values
    return -np.log(out)
