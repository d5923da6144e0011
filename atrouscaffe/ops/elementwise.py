"""How elementwise work is cut: flat pieces for maps, tiles of pixels for what runs over channels.

NumPy's own loops are as fast as compiled ones where each value is read once; what costs time is
temporary arrays that leave the cache, and running on one thread. So kernels are written with NumPy's
words and run on pieces small enough for the second-level cache, spread over the thread pool.
Cuts depend on shapes only, so results are the same bits for any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["BLOCK", "fold", "over_tiles", "spread"]

BLOCK = 1 << 17
"""Elements in a piece: half a megabyte of float32."""


def _flat(array: Any) -> Any:
    """Return a flat view; never a copy, since kernels write through it."""
    if not array.flags.c_contiguous:
        raise ShapeError(f"elementwise work: expected a contiguous array, got one of shape {array.shape} with gaps")
    return array.reshape(-1)


def spread(xp: Any, kernel: Callable[..., None], *arrays: Any) -> None:
    """Call ``kernel(xp, *pieces)`` on matching pieces of contiguous arrays of one size.

    Parameters
    ----------
    xp : module
        NumPy; the pieces of another module's arrays are the whole arrays.
    kernel : callable
        Writes into some of its pieces; each place must depend on the same place of the others only.
    *arrays : array
        All of one size; several may be the same array.
    """
    flat = [_flat(array) for array in arrays]
    if any(array.size != flat[0].size for array in flat):
        raise ShapeError(f"elementwise work: expected arrays of one size, got {[array.shape for array in arrays]}")
    if xp is not np:
        kernel(xp, *flat)
        return
    pieces = chunks(flat[0].size, BLOCK)

    def work(i: int) -> None:
        start, stop = pieces[i]
        with np.errstate(all="ignore"):  # as in Caffe; the solver looks for NaN itself
            kernel(np, *(array[start:stop] for array in flat))

    parallel(work, len(pieces))


def fold(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """Return (outer, channels, inner): the sizes before, at and behind `axis` (0 or more)."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:])


def over_tiles(shape: tuple[int, int, int], work: Callable[..., Any], xp: Any = np) -> list[Any]:
    """Call ``work(rows, columns)`` for tiles that cover an (outer, channels, inner) array.

    A tile holds all channels of some pixels, at most about `BLOCK` values; where `xp` is not NumPy, one
    tile is the whole array.

    Returns
    -------
    list
        What `work` returned for each tile, in order.
    """
    outer, channels, inner = shape
    if not outer * channels * inner:
        return []
    if xp is not np:
        return [work(slice(0, outer), slice(0, inner))]
    columns = max(64, BLOCK // channels)
    if inner >= columns:
        tiles = [(slice(n, n + 1), slice(*cut)) for n in range(outer) for cut in chunks(inner, columns)]
    else:
        rows = max(1, columns // inner)
        tiles = [(slice(*cut), slice(0, inner)) for cut in chunks(outer, rows)]

    results: list[Any] = [None] * len(tiles)

    def call(i: int) -> None:
        with np.errstate(all="ignore"):
            results[i] = work(*tiles[i])

    parallel(call, len(tiles))
    return results
