"""Launches of ``kernels/domain_transform.cu``: see `atrouscaffe.ops.domain_transform`."""

from __future__ import annotations

from typing import Any

from atrouscaffe.runtime.kernels import launch

__all__ = ["filter_planes", "unfilter_planes"]

BLOCK = 64
"""Threads in a block: there are some thousand lines, which many blocks spread over the device."""


def _lines(planes: Any, height: int, width: int, rows: bool) -> tuple[int, ...]:
    """Return (count, lines, length, line_step, step, area) of the top-left rows or columns of (P, H, W)."""
    lines, length = (height, width) if rows else (width, height)
    across, along = (planes.shape[2], 1) if rows else (1, planes.shape[2])
    return len(planes) * lines if length else 0, lines, length, across, along, planes.shape[1] * planes.shape[2]


def filter_planes(planes: Any, weight: Any, height: int, width: int, steps: Any) -> None:
    """Filter the top-left height x width of each plane in place: right, left, down, up.

    Parameters
    ----------
    planes : (P, H, W) array
    weight : (H, W) array
    height, width : int
    steps : (4, P, H, W) array or None
        Filled with differences, for `unfilter_planes`.
    """
    for rows, pair in ((True, (0, 1)), (False, (2, 3))):
        sizes = _lines(planes, height, width, rows)
        kept = (None, None) if steps is None else (steps[pair[0]], steps[pair[1]])
        launch("domain_transform", "filter_lines", sizes[0], (planes, weight, *kept, *sizes), real=planes.dtype,
               block=BLOCK)


def unfilter_planes(gradients: Any, weight: Any, weight_gradients: Any, height: int, width: int, steps: Any) -> None:
    """Turn gradients of the results into those of the inputs, in place; add to `weight_gradients` (P, H, W)."""
    for rows, pair in ((False, (2, 3)), (True, (0, 1))):
        sizes = _lines(gradients, height, width, rows)
        launch("domain_transform", "unfilter_lines", sizes[0],
               (gradients, weight, weight_gradients, steps[pair[0]], steps[pair[1]], *sizes), real=gradients.dtype,
               block=BLOCK)
