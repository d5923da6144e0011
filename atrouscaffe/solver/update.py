"""Update rules: pure functions on one-dimensional arrays.

Each rule turns a gradient, in place, into what is to be subtracted from the parameter, and brings
its histories up to date. The order of the steps before it is the original's: clip by the norm of the
gradients as accumulated, divide by iter_size, add the decay, compute the update.

Source: ``solvers/*_solver.cpp`` of BVLC Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from atrouscaffe.solver.spec import SolverSpec

__all__ = ["HISTORIES", "RULES", "Step", "clip_scale", "make_step", "regularize"]


@dataclass(frozen=True)
class Step:
    """The numbers of one update of one parameter.

    Attributes
    ----------
    rate : float
        Learning rate times the parameter's lr_mult; with Adam also its correction for early steps.
    momentum, momentum2, rms_decay, delta : float
    """

    rate: float
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8


def make_step(spec: SolverSpec, rate: float, iteration: int) -> Step:
    """Return the numbers of iteration `iteration` (from 0) at `rate` (policy times lr_mult)."""
    if spec.type == "Adam":
        t = iteration + 1
        below = 1 - spec.momentum ** t
        rate *= math.sqrt(1 - spec.momentum2 ** t) / below if below else math.inf
    return Step(rate, spec.momentum, spec.momentum2, spec.rms_decay, spec.delta)


def clip_scale(sum_of_squares: float, clip_gradients: float) -> float:
    """Return the factor that brings gradients of this squared norm down to `clip_gradients`; 1 if they are below.

    A negative `clip_gradients` is none.
    """
    norm = math.sqrt(sum_of_squares)
    return clip_gradients / norm if 0 <= clip_gradients < norm else 1.0


def regularize(grad: np.ndarray, value: np.ndarray, decay: float, kind: str) -> None:
    """Add the gradient of the decay term, in place: L2 ``decay·value``, L1 ``decay·sign(value)``."""
    if decay:
        grad += _as(decay, grad) * (np.sign(value) if kind == "L1" else value)


def _as(number: float, array: np.ndarray) -> np.floating:
    """Return `number` in the array's precision, so that products stay in it."""
    return array.dtype.type(number)


def sgd(grad: np.ndarray, histories: Sequence[np.ndarray], step: Step) -> None:
    """V ← momentum·V + rate·g; update V."""
    velocity = histories[0]
    velocity *= _as(step.momentum, grad)
    grad *= _as(step.rate, grad)
    velocity += grad
    grad[...] = velocity


def nesterov(grad: np.ndarray, histories: Sequence[np.ndarray], step: Step) -> None:
    """V' ← momentum·V + rate·g; update (1 + momentum)·V' - momentum·V."""
    velocity = histories[0]
    before = velocity * _as(step.momentum, grad)
    grad *= _as(step.rate, grad)
    np.add(before, grad, out=velocity)
    np.multiply(velocity, _as(1 + step.momentum, grad), out=grad)
    grad -= before


def adagrad(grad: np.ndarray, histories: Sequence[np.ndarray], step: Step) -> None:
    """H ← H + g²; update rate·g / (sqrt(H) + delta)."""
    squares = histories[0]
    squares += grad * grad
    _divide(grad, squares, step)


def rmsprop(grad: np.ndarray, histories: Sequence[np.ndarray], step: Step) -> None:
    """H ← rms_decay·H + (1 - rms_decay)·g²; update rate·g / (sqrt(H) + delta)."""
    squares = histories[0]
    _average(squares, grad * grad, step.rms_decay)
    _divide(grad, squares, step)


def adadelta(grad: np.ndarray, histories: Sequence[np.ndarray], step: Step) -> None:
    """H ← m·H + (1-m)·g²; d = g·sqrt((D + delta)/(H + delta)); D ← m·D + (1-m)·d²; update rate·d."""
    squares, changes = histories
    delta = _as(step.delta, grad)
    _average(squares, grad * grad, step.momentum)
    ratio = changes + delta
    ratio /= squares + delta
    grad *= np.sqrt(ratio, out=ratio)
    _average(changes, grad * grad, step.momentum)
    grad *= _as(step.rate, grad)


def adam(grad: np.ndarray, histories: Sequence[np.ndarray], step: Step) -> None:
    """M ← m·M + (1-m)·g; V ← m2·V + (1-m2)·g²; update rate·M / (sqrt(V) + delta), rate with its correction."""
    mean, squares = histories
    _average(squares, grad * grad, step.momentum2)
    _average(mean, grad, step.momentum)
    grad[...] = mean
    _divide(grad, squares, step)


def _average(history: np.ndarray, fresh: np.ndarray, keep: float) -> None:
    """history ← keep·history + (1 - keep)·fresh; `fresh` may be overwritten."""
    history *= _as(keep, history)
    fresh *= _as(1 - keep, history)
    history += fresh


def _divide(grad: np.ndarray, squares: np.ndarray, step: Step) -> None:
    """grad ← rate·grad / (sqrt(squares) + delta)."""
    root = np.sqrt(squares)
    root += _as(step.delta, grad)
    grad /= root
    grad *= _as(step.rate, grad)


RULES: dict[str, Callable[[np.ndarray, Sequence[np.ndarray], Step], None]] = {
    "SGD": sgd, "Nesterov": nesterov, "AdaGrad": adagrad, "RMSProp": rmsprop, "AdaDelta": adadelta, "Adam": adam}
HISTORIES = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}
"""How many arrays of its size each rule keeps for a parameter."""
