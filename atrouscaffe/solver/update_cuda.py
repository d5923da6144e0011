"""Launches of ``kernels/update.cu``: the rules of `atrouscaffe.solver.update`, one pass over a parameter each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import BLOCK, launch

if TYPE_CHECKING:
    from atrouscaffe.solver.update import Step

__all__ = ["sum_of_squares", "update"]

SPAN = 64 * BLOCK
"""Numbers whose squares one block adds up."""


def sum_of_squares(arrays: Sequence[Any]) -> float:
    """Return the sum of the squares of all numbers, in a fixed order; this waits for the device."""
    counts = [-(-array.size // SPAN) for array in arrays]
    if not sum(counts):
        return 0.0
    xp = module_of(arrays[0])
    partials, total = xp.empty(sum(counts), np.float64), xp.empty(1, np.float64)
    begin = 0
    for array, count in zip(arrays, counts):
        launch("update", "squares", (count,), (array, partials[begin:begin + count], array.size, SPAN),
               real=array.dtype)
        begin += count
    launch("update", "add_squares", (1,), (partials, total, begin))
    return float(total.get()[0])


def update(rule: str, grad: Any, value: Any, histories: Sequence[Any], step: Step, *, scale: float, decay: float,
           kind: str, subtract: bool) -> None:
    """Turn a gradient, in place, into an update, and subtract it from `value` if asked to.

    Parameters
    ----------
    rule : str
        Of `atrouscaffe.solver.update.RULES`.
    grad, value : array
        Of one size.
    histories : sequence of array
    step : Step
    scale : float
        The gradient is multiplied by this first.
    decay : float
    kind : {"L1", "L2"}
        See `atrouscaffe.solver.update.regularize`.
    subtract : bool
    """
    numbers = {
        "SGD": (step.rate, step.momentum),
        "Nesterov": (step.rate, step.momentum, 1 + step.momentum),
        "AdaGrad": (step.rate, step.delta),
        "RMSProp": (step.rate, step.delta, step.rms_decay, 1 - step.rms_decay),
        "AdaDelta": (step.rate, step.delta, step.momentum, 1 - step.momentum),
        "Adam": (step.rate, step.delta, step.momentum, 1 - step.momentum, step.momentum2, 1 - step.momentum2),
    }[rule]
    launch("update", rule.lower(), grad.size,
           (grad, value, *histories, grad.size, scale, decay, kind == "L1", subtract, *numbers), real=grad.dtype)
