"""Launches of ``kernels/activation.cu``: see `atrouscaffe.ops.activation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.ops.channels_cuda import channel_sums
from atrouscaffe.runtime.kernels import launch

__all__ = ["apply", "prelu", "prelu_grad"]


def apply(name: str, arrays: Sequence[Any], numbers: Sequence[float]) -> None:
    """Run a kernel on arrays of one size, the last of which it writes.

    Parameters
    ----------
    name : str
    arrays : sequence of array
    numbers : sequence of float
        The form's own, in the kernel's order.
    """
    count = arrays[0].size
    launch("activation", name, count, (*arrays, count, *numbers), real=arrays[0].dtype)


def prelu(x: Any, slope: Any, y: Any) -> None:
    """Write ``y = max(x, 0) + slope min(x, 0)``; arrays as in the contract."""
    launch("activation", "prelu", x.size, (x, slope, y, x.size, slope.size, _step(x, slope)), real=x.dtype)


def prelu_grad(x: Any, slope: Any, dy: Any, dx: Any, want_slope: bool) -> Any:
    """Write ``dx = dy`` where x > 0, else ``slope dy``; return the gradient of each channel's slope, if wanted."""
    total = channel_sums(x, dy, below=True).astype(x.dtype) if want_slope else None  # first, as dx may be dy
    if dx is not None:
        launch("activation", "prelu_grad", x.size, (x, slope, dy, dx, x.size, slope.size, _step(x, slope)),
               real=x.dtype)
    return total


def _step(x: Any, slope: Any) -> int:
    """Return after how many values comes the next slope; one slope stays for all."""
    return max(1, x.shape[2]) if slope.size > 1 else 1
