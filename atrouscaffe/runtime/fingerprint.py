"""A number that changes with the values of an array: to notice what users write into parameters."""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.fingerprint_cpu import mixed
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["fingerprint"]

PIECE = 2**20


def fingerprint(array: np.ndarray) -> int:
    """Return 64 bits that depend on every bit of a contiguous array and on its place.

    Parameters
    ----------
    array : float32 or float64 array
    """
    words = array.reshape(-1).view(np.uint32)
    pieces = chunks(words.size, PIECE)
    found = np.zeros(len(pieces), np.uint64)

    def work(i: int) -> None:
        found[i] = mixed(words[slice(*pieces[i])], pieces[i][0])

    parallel(work, len(pieces))
    return int(found.sum(dtype=np.uint64))
