"""Boxes of detectors: overlap, coding against priors, non-maximum suppression.

Boxes are (..., 4) arrays of xmin, ymin, xmax, ymax in fractions of the image's sides, in main memory: there are few of
them, and what is kept depends on their values. Source: ``bbox_util.cpp`` of SSD's Caffe.
"""

from __future__ import annotations

import numpy as np

__all__ = ["areas", "decode", "encode", "overlaps", "suppress"]


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return width times height, 0 for boxes whose corners are exchanged."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.where((width < 0) | (height < 0), 0, width * height)


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return intersection over union of each pair: (n, 4) and (m, 4) to (n, m)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    side = np.maximum(high - low, 0)
    shared = side[..., 0] * side[..., 1]
    union = areas(one)[:, None] + areas(other)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=(shared > 0) & (union > 0))


def _centre_size(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def encode(priors: np.ndarray, variances: np.ndarray, boxes: np.ndarray, code: str) -> np.ndarray:
    """Return boxes as differences from priors, in units of the variances.

    Parameters
    ----------
    priors, variances, boxes : (n, 4) array
        Variances of 1 leave the differences as they are (``variance_encoded_in_target``).
    code : {"CORNER", "CENTER_SIZE", "CORNER_SIZE"}
    """
    centre, size = _centre_size(priors)
    if code == "CORNER":
        found = boxes - priors
    elif code == "CORNER_SIZE":
        found = (boxes - priors) / np.concatenate([size, size], -1)
    else:
        middle, extent = _centre_size(boxes)
        found = np.concatenate([(middle - centre) / size, np.log(extent / size)], -1)
    return found / variances


def decode(priors: np.ndarray, variances: np.ndarray, coded: np.ndarray, code: str) -> np.ndarray:
    """Return the boxes that `encode` makes `coded` of; broadcasts over leading axes of `coded`."""
    centre, size = _centre_size(priors)
    coded = coded * variances
    if code == "CORNER":
        return priors + coded
    if code == "CORNER_SIZE":
        return priors + coded * np.concatenate([size, size], -1)
    middle = coded[..., :2] * size + centre
    with np.errstate(over="ignore"):
        half = np.exp(coded[..., 2:]) * size / 2
    return np.concatenate([middle - half, middle + half], -1)


def suppress(boxes: np.ndarray, scores: np.ndarray, least: float, threshold: float, most: int = -1,
             eta: float = 1.0) -> np.ndarray:
    """Return which boxes are left when those that overlap a better one are taken away, best first.

    Parameters
    ----------
    boxes : (n, 4) array
    scores : (n,) array
        Only scores above `least` take part; of equal ones the first is better.
    least, threshold : float
        A box stays if its overlap with each that stayed before it is at most `threshold`.
    most : int, optional
        Only so many of the best take part; below 0, all.
    eta : float, optional
        After each box that stays, a threshold above 0.5 is multiplied by this.

    Returns
    -------
    (k,) int array
    """
    order = np.flatnonzero(scores > least)
    order = order[np.argsort(-scores[order], kind="stable")]
    order = order[:most] if most > -1 else order
    candidates = boxes[order]
    worst = np.zeros(len(order))
    kept = []
    for i in range(len(order)):
        if worst[i] > threshold:
            continue
        kept.append(i)
        np.maximum(worst[i + 1:], overlaps(candidates[i:i + 1], candidates[i + 1:])[0], out=worst[i + 1:])
        if eta < 1 and threshold > 0.5:
            threshold *= eta
    return order[kept]
