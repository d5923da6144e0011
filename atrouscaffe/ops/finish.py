"""What follows a convolution and is done to each output before it leaves the registers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.ops.finish_cpu import finish_planes
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["PLAIN", "RELU", "Finish", "finish_blob"]

PIECE = 2**16
"""Elements of a task: a quarter of a megabyte."""


@dataclass(frozen=True)
class Finish:
    """What is done to each output of a convolution while it is in registers.

    Attributes
    ----------
    slope : float, (M,) array or None
        Values below 0 are multiplied by it: 0 is ReLU, an array PReLU; None leaves them.
    cap : float
        Values above become this: 6 with slope 0 is ReLU6.
    base : array or None
        Added before, of the output's shape: the other bottom of a sum.
    """

    slope: Any = None
    cap: float = float("inf")
    base: Any = None

    @property
    def act(self) -> int:
        """0 for no activation, 1 for one that makes values below 0 to 0, 2 for slopes."""
        if self.slope is None and self.cap == float("inf"):
            return 0
        return 1 if np.isscalar(self.slope) and self.slope == 0 else 2

    def slopes(self, rows: int) -> np.ndarray:
        """Return the slope of each of `rows` outputs, float32; not to be written to."""
        if self.slope is None or np.isscalar(self.slope):
            return _all_slopes(1.0 if self.slope is None else float(self.slope), rows)
        return np.array(np.broadcast_to(self.slope, rows), np.float32)


@functools.lru_cache(256)
def _all_slopes(slope: float, rows: int) -> np.ndarray:
    """Return one slope for all outputs; the same array each time."""
    return np.full(rows, slope, np.float32)


PLAIN, RELU = Finish(), Finish(slope=0.0)


def finish_blob(x: np.ndarray, y: np.ndarray, finish: Finish, scale: np.ndarray | None = None,
                shift: np.ndarray | None = None) -> None:
    """Write ``act((x + base) * scale + shift)``, where `finish` says what base and activation are.

    Parameters
    ----------
    x, y : (outer, C, inner) float32, contiguous
        May be the same, or the base.
    finish : Finish
    scale, shift : (C,) array, optional
    """
    outer, channels, inner = x.shape
    flat, out = x.reshape(-1), y.reshape(-1)
    base = flat if finish.base is None else finish.base.reshape(-1)
    numbers = (np.ones(channels, np.float32) if scale is None else scale,
               np.zeros(channels, np.float32) if shift is None else shift, np.array(finish.slopes(channels)))
    planes = chunks(outer * channels, max(1, PIECE // max(1, inner)))
    spans = chunks(inner, PIECE)
    tasks = [(part, span) for part in planes for span in spans]

    def work(i: int) -> None:
        finish_planes(flat, base, out, *tasks[i], inner, *numbers, np.float32(finish.cap), finish.base is not None,
                      finish.act == 1)

    parallel(work, len(tasks))
