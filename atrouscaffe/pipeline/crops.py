"""Large images by crops of a net's own size whose probabilities are averaged, as PSPNet's authors score them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.ops.softmax import softmax
from atrouscaffe.runtime.backend import module_of

__all__ = ["crop_starts", "scores_of_crops"]


def crop_starts(length: int, side: int) -> list[int]:
    """Return where crops of `side` pixels begin: every two thirds of it, the last at the end (``scale_process.m``)."""
    stride = -(-2 * side // 3)
    return [min(i * stride, length - side) for i in range(-(-(length - side) // stride) + 1)]


def scores_of_crops(padded: Any, size: tuple[int, int], run: Callable[[Any], Any]) -> Any:
    """Return the logarithm of the mean of the crops' probabilities.

    Parameters
    ----------
    padded : (1, C, H, W) float32 array
        An image as it goes into the net, at least as large as a crop.
    size : (int, int)
        Height and width of a crop.
    run : callable
        Returns the scores of one crop, (classes, height, width).

    Returns
    -------
    (classes, H, W) float32 array
    """
    xp, (height, width) = module_of(padded), padded.shape[2:]
    total: Any = None
    count = xp.zeros((height, width), np.float32)
    for row, column in itertools.product(crop_starts(height, size[0]), crop_starts(width, size[1])):
        part = (slice(None), slice(row, row + size[0]), slice(column, column + size[1]))
        scores = run(padded[(slice(None), *part)])
        if scores.shape[1:] != size:
            raise ArgumentError(f"scores: expected one for each of {size[1]}x{size[0]} pixels, so that crops can be "
                                f"averaged, got {scores.shape[2]}x{scores.shape[1]}")
        if total is None:
            total = xp.zeros((len(scores), height, width), np.float32)
        probabilities = xp.empty(scores.shape, np.float32)
        flat = (1, len(scores), size[0] * size[1])
        softmax(xp.ascontiguousarray(scores).reshape(flat), probabilities.reshape(flat))
        total[part] += probabilities
        count[part[1:]] += 1
    total /= count
    return xp.log(xp.maximum(total, np.finfo(np.float32).tiny))
