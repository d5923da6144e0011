"""Launches of ``kernels/pool.cu``: see `atrouscaffe.ops.pool`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import BLOCK, launch

__all__ = ["average_backward", "average_pool", "max_backward", "max_indices", "max_pool", "stochastic_average",
           "stochastic_average_backward", "stochastic_pick"]

FEW_WINDOWS = 16
LARGE_WINDOW = 64
"""Planes with at most so many windows of at least so many pixels get a warp a window."""


def _geo(windows: Sequence[Window], pads: bool = True) -> tuple[int, ...]:
    h, w = windows
    return (h.kernel, w.kernel, h.stride, w.stride, *((h.pad, w.pad) if pads else ()))


def _pool(function: str, first: tuple[Any, ...], x: Any, shape: Sequence[int], windows: Sequence[Window]) -> None:
    """Launch a pooling with a thread or, for few large windows, a warp a window."""
    count = int(np.prod(shape, dtype=np.int64))
    args = (*first, count, *x.shape[-2:], *shape[-2:], *_geo(windows))
    if shape[-2] * shape[-1] <= FEW_WINDOWS and windows[0].kernel * windows[1].kernel >= LARGE_WINDOW:
        launch("pool", f"{function}_wide", (-(-count * 32 // BLOCK),), args, real=x.dtype)
    else:
        launch("pool", function, count, args, real=x.dtype)


def max_pool(x: Any, y: Any, windows: Sequence[Window]) -> None:
    """Write the maximum of each window."""
    _pool("max_pool", (x, y, None), x, y.shape, windows)


def max_indices(x: Any, shape: Sequence[int], windows: Sequence[Window]) -> Any:
    """Return where each window's first maximum is, int32."""
    indices = module_of(x).empty(tuple(shape), np.int32)
    _pool("max_pool", (x, None, indices), x, shape, windows)
    return indices


def _back(function: str, first: tuple[Any, ...], dx: Any, dy: Any, geo: tuple[int, ...]) -> None:
    launch("pool", function, dx.size, (*first, dx, dx.size, *dx.shape[-2:], *dy.shape[-2:], *geo), real=dx.dtype)


def max_backward(dy: Any, indices: Any, dx: Any, windows: Sequence[Window]) -> None:
    """Overwrite dx with each window's dy at the pixel that `indices` names, gathered from the windows of a pixel."""
    _back("max_pool_backward", (dy, indices), dx, dy, _geo(windows))


def average_pool(x: Any, y: Any, windows: Sequence[Window]) -> None:
    """Write the average of each window."""
    _pool("average_pool", (x, y), x, y.shape, windows)


def average_backward(dy: Any, dx: Any, windows: Sequence[Window]) -> None:
    """Overwrite dx with the adjoint of `average_pool`."""
    _back("average_pool_backward", (dy,), dx, dy, _geo(windows))


def stochastic_pick(x: Any, chance: Any, y: Any, windows: Sequence[Window]) -> Any:
    """Write one value of each window; return its index, int32."""
    indices = module_of(x).empty(y.shape, np.int32)
    launch("pool", "stochastic_pick", y.size,
           (x, chance, y, indices, y.size, *x.shape[-2:], *y.shape[-2:], *_geo(windows, False)), real=x.dtype)
    return indices


def _average(x: Any, dy: Any, y: Any, windows: Sequence[Window]) -> None:
    launch("pool", "stochastic_average", y.size,
           (x, dy, y, y.size, *x.shape[-2:], *y.shape[-2:], *_geo(windows, False)), real=x.dtype)


def stochastic_average(x: Any, y: Any, windows: Sequence[Window]) -> None:
    """Write the expectation of `stochastic_pick`."""
    _average(x, None, y, windows)


def stochastic_average_backward(x: Any, y: Any, dy: Any, dx: Any, windows: Sequence[Window]) -> None:
    """Overwrite dx with the gradient of `stochastic_average`."""
    share = module_of(x).empty(dy.shape, dy.dtype)
    _average(x, dy, share, windows)
    _back("stochastic_average_backward", (x, y, share), dx, dy, _geo(windows, False))
