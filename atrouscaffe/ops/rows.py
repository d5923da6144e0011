"""Rows of arrays, chosen by index: their copies, and the sums of what belongs to one row.

Indices are whole numbers that were checked in main memory; the rows may lie on a device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.runtime.backend import module_of, on_device

__all__ = ["add_rows", "take_rows"]


def take_rows(source: Any, indices: np.ndarray, out: Any) -> None:
    """Write ``source[indices[i]]`` as row i of `out`.

    Parameters
    ----------
    source : (R, ...) array
    indices : (N,) int array in main memory, 0 to R - 1
    out : (N, ...) array, written
    """
    if not len(indices):
        return
    if on_device(source):
        xp = module_of(source)
        xp.take(source, xp.asarray(indices), axis=0, out=out)
    else:
        np.take(source, indices, axis=0, out=out, mode="clip")


def add_rows(target: Any, indices: np.ndarray, source: Any) -> None:
    """Add row i of `source` to row ``indices[i]`` of `target`, in order.

    Parameters
    ----------
    target : (R, ...) array, added to
    indices : (N,) int array in main memory, 0 to R - 1
    source : (N, ...) array
    """
    if on_device(target):
        from atrouscaffe.ops import rows_cuda

        rows_cuda.add_rows(target, indices, source)
        return
    np.add.at(target, indices, source)
