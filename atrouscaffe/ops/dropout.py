"""Dropout: masks of random bits, and their use.

One number of a layer's stream seeds a mask. On the CPU NumPy draws it piece by piece; on a CUDA device
a counter-based generator draws each element by itself (``kernels/dropout.cu``). Either way the mask
depends on the seed and the size alone, not on threads or launches; between devices masks differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.ops.elementwise import BLOCK, spread
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["apply_mask", "draw_mask", "dropout"]


def dropout(x: Any, y: Any, ratio: float, rng: np.random.Generator) -> Any:
    """Write x where a new mask is set, divided by ``1 - ratio``, else 0.

    Parameters
    ----------
    x, y : array
        Of one size; they may be the same.
    ratio : float
        Probability of 0.
    rng : numpy.random.Generator
        Gives one number.

    Returns
    -------
    bool array of x's size
        The mask, for `apply_mask`.
    """
    seed = int(rng.integers(0, 2**63))
    if on_device(x):
        from atrouscaffe.ops import dropout_cuda

        return dropout_cuda.dropout(x, y, ratio, seed)
    mask = draw_mask(seed, x.size, ratio)
    apply_mask(mask, x, y, ratio)
    return mask


def apply_mask(mask: Any, x: Any, y: Any, ratio: float) -> None:
    """Write x where the mask is set, divided by ``1 - ratio``, else 0; `y` may be `x`."""
    if on_device(x):
        from atrouscaffe.ops import dropout_cuda

        dropout_cuda.apply_mask(mask, x, y, ratio)
        return
    scale = 1 / (1 - ratio)

    def kernel(xp: Any, mask: Any, x: Any, y: Any) -> None:
        xp.multiply(x, mask, out=y)
        y *= scale

    spread(np, kernel, mask, x, y)


def draw_mask(seed: int, size: int, ratio: float) -> np.ndarray:
    """Return `size` booleans, each False with probability `ratio`.

    The seed gives a stream for each piece, so pieces can be drawn side by side and the mask does not
    depend on the number of threads.
    """
    mask = np.empty(size, bool)
    pieces = chunks(size, BLOCK)

    def work(i: int) -> None:
        start, stop = pieces[i]
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, i))))
        np.greater_equal(stream.random(stop - start, dtype=np.float32), ratio, out=mask[start:stop])

    parallel(work, len(pieces))
    return mask
