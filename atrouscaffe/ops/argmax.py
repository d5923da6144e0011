"""Largest channels, with Caffe's rule for ties: pairs (value, index) are sorted, so the larger index wins.

Arrays on a CUDA device go to `argmax_cuda`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.ops.elementwise import over_tiles
from atrouscaffe.runtime.backend import on_device

__all__ = ["argmax", "label_ranks", "top_channels"]


def argmax(x: Any) -> Any:
    """Return the channel with the largest value of each pixel; of equal ones the last.

    Parameters
    ----------
    x : (outer, channels, inner) float32 or float64

    Returns
    -------
    (outer, inner) int32
    """
    if on_device(x):
        from atrouscaffe.ops import argmax_cuda

        return argmax_cuda.argmax(x)
    outer, channels, inner = x.shape
    out = np.zeros((outer, inner), np.int32)

    def work(rows: slice, columns: slice) -> None:
        part, index = x[rows, :, columns], out[rows, columns]
        best = part[:, 0].copy()
        for channel in range(1, channels):
            values = part[:, channel]
            np.copyto(index, channel, where=values >= best)
            np.maximum(best, values, out=best)

    over_tiles(x.shape, work)
    return out


def top_channels(x: Any, k: int) -> Any:
    """Return the `k` largest channels of each pixel, largest first.

    Parameters
    ----------
    x : (outer, channels, inner) float32 or float64
    k : int

    Returns
    -------
    (outer, k, inner) int32
    """
    if k == 1:
        return argmax(x)[:, None, :]
    if on_device(x):
        from atrouscaffe.ops import argmax_cuda

        return argmax_cuda.top_channels(x, k)
    outer, _, inner = x.shape
    out = np.zeros((outer, k, inner), np.int32)

    def work(rows: slice, columns: slice) -> None:
        order = np.argsort(x[rows, :, columns], axis=1, kind="stable")  # ties ascending, so the last is the largest
        out[rows, :, columns] = order[:, ::-1][:, :k]

    over_tiles(x.shape, work)
    return out


def label_ranks(x: Any, labels: Any, all_equal: bool = False) -> Any:
    """Return how many channels come before the label's: larger ones, and of equal ones those of larger index.

    Parameters
    ----------
    x : (outer, channels, inner) float32 or float64
    labels : (outer, inner) int32
        The rank of a negative label means nothing.
    all_equal : bool
        Channels of smaller index come before an equal label, too.

    Returns
    -------
    (outer, inner) integers
    """
    if on_device(x):
        from atrouscaffe.ops import argmax_cuda

        return argmax_cuda.label_ranks(x, labels, all_equal)
    labels = labels[:, None, :]
    score = np.take_along_axis(x, np.maximum(labels, 0), axis=1)
    if all_equal:
        return (x >= score).sum(axis=1) - 1
    later = np.arange(x.shape[1])[None, :, None] > labels
    return ((x > score) | ((x == score) & later)).sum(axis=1)
