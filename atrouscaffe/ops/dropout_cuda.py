"""Launches of ``kernels/dropout.cu``: see `atrouscaffe.ops.dropout`."""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.errors import DeviceError
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.cuda import recording
from atrouscaffe.runtime.kernels import launch

__all__ = ["apply_mask", "dropout"]


def dropout(x: Any, y: Any, ratio: float, seed: int) -> Any:
    """Draw a mask from `seed`, apply it, and return it.

    Raises
    ------
    DeviceError
        The work is being recorded: every replay would have the same mask.
    """
    if recording():
        raise DeviceError("recording: Dropout draws its mask's seed on the host, so that every replay would drop the "
                          "same values; such passes cannot be recorded")
    mask = module_of(x).empty(x.size, np.bool_)
    counters = -(-x.size // 4)
    launch("dropout", "dropout", counters, (x, mask, y, x.size, counters, seed, ratio, 1 / (1 - ratio)), real=x.dtype)
    return mask


def apply_mask(mask: Any, x: Any, y: Any, ratio: float) -> None:
    """Write x where the mask is set, divided by ``1 - ratio``, else 0; `y` may be `x`."""
    launch("dropout", "dropout_apply", x.size, (mask, x, y, x.size, 1 / (1 - ratio)), real=x.dtype)
