"""Compiled half of `fingerprint`."""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit

__all__ = ["mixed"]


@jit
def mixed(words, start):
    """Return the sum of the words, each multiplied by itself and by an odd number that its place gives."""
    total = np.uint64(0)
    place = np.uint64(start) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    for i in range(words.size):
        word = np.uint64(words[i])
        total += (word + np.uint64(0x7F4A7C15)) * (word ^ place)
        place += np.uint64(0x9E3779B97F4A7C15)
    return total
