"""What follows a convolution and is done to each output before it leaves the registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PLAIN", "RELU", "Finish"]


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
        """Return the slope of each of `rows` outputs, float32."""
        return np.broadcast_to(np.asarray(1.0 if self.slope is None else self.slope, np.float32), (rows,))


PLAIN, RELU = Finish(), Finish(slope=0.0)
