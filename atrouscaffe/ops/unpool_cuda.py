"""Launches of ``kernels/unpool.cu``: see `atrouscaffe.ops.unpool`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch

__all__ = ["unpool", "unpool_backward"]


def unpool(x: Any, mask: Any, y: Any) -> bool:
    """Write each value at its place in y and return True, or False for a mask that is not sound; this waits."""
    xp = module_of(x)
    size, pixels = math.prod(x.shape[2:]), math.prod(y.shape[2:])
    winners, wrong = xp.full(y.shape, -1, np.int32), xp.zeros(1, np.int32)
    launch("unpool", "find_winners", x.size, (mask, winners, wrong, x.size, size, pixels), real=x.dtype)
    if int(wrong[0]):
        return False
    launch("unpool", "unpool", y.size, (x, winners, y, y.size, size, pixels), real=x.dtype)
    return True


def unpool_backward(dy: Any, mask: Any, dx: Any) -> None:
    """Overwrite dx with dy at the place of each value; forward has looked at the mask."""
    launch("unpool", "unpool_backward", dx.size,
           (dy, mask, dx, dx.size, math.prod(dx.shape[2:]), math.prod(dy.shape[2:])), real=dx.dtype)
