"""Largest channels, with Caffe's rule for ties: pairs (value, index) are sorted, so the larger index wins."""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.ops.elementwise import over_tiles

__all__ = ["argmax", "top_channels"]


def argmax(x: Any) -> np.ndarray:
    """Return the channel with the largest value of each pixel; of equal ones the last.

    Parameters
    ----------
    x : (outer, channels, inner) float32 or float64

    Returns
    -------
    (outer, inner) int32
    """
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


def top_channels(x: Any, k: int) -> np.ndarray:
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
    outer, _, inner = x.shape
    out = np.zeros((outer, k, inner), np.int32)

    def work(rows: slice, columns: slice) -> None:
        order = np.argsort(x[rows, :, columns], axis=1, kind="stable")  # ties ascending, so the last is the largest
        out[rows, :, columns] = order[:, ::-1][:, :k]

    over_tiles(x.shape, work)
    return out
