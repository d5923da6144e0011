"""Scratch memory of the worker threads: small, reused, never handed out of a task."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

__all__ = ["TILE_BYTES", "scratch"]

TILE_BYTES = 2 * 2**20
"""About how much one tile of columns may take: near a core's second-level cache."""

_local = threading.local()


def scratch(slot: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array, of what was left in it, that this thread owns until it asks for the same slot again.

    Parameters
    ----------
    slot : str
        Names the use, so that a task can hold several at once.
    shape : tuple of int
    dtype : dtype

    Returns
    -------
    (\\*shape) array, C-contiguous
    """
    size = 1
    for n in shape:
        size *= n
    buffers = _local.__dict__
    key = (slot, np.dtype(dtype).char)
    buffer = buffers.get(key)
    if buffer is None or buffer.size < size:
        buffer = buffers[key] = np.zeros(size, dtype)  # pointers left in memory read as denormals, which are slow
    return buffer[:size].reshape(shape)
