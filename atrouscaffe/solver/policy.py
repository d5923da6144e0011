"""Learning-rate policies: pure functions of the iteration.

Source: ``SGDSolver::GetLearningRate`` of BVLC Caffe.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrouscaffe.solver.spec import SolverSpec

__all__ = ["current_step", "learning_rate"]


def current_step(spec: SolverSpec, iteration: int) -> int:
    """Return how often a step or multistep rate has fallen; 0 for the other policies."""
    if spec.lr_policy == "step":
        return iteration // spec.stepsize
    if spec.lr_policy == "multistep":
        return sum(iteration >= value for value in spec.stepvalue)
    return 0


def learning_rate(spec: SolverSpec, iteration: int) -> float:
    """Return the rate of `iteration` (from 0).

    Parameters
    ----------
    spec : SolverSpec
    iteration : int

    Returns
    -------
    float
        ``fixed``: base. ``step``, ``multistep``: base·gamma^k after k steps. ``exp``: base·gamma^i.
        ``inv``: base·(1 + gamma·i)^-power. ``poly``: base·(1 - i/max_iter)^power, 0 beyond max_iter.
        ``sigmoid``: base / (1 + exp(-gamma·(i - stepsize))).
    """
    base = spec.base_lr
    if spec.lr_policy in ("step", "multistep"):
        return base * _power(spec.gamma, current_step(spec, iteration))
    if spec.lr_policy == "exp":
        return base * _power(spec.gamma, iteration)
    if spec.lr_policy == "inv":
        return base * (1 + spec.gamma * iteration) ** -spec.power
    if spec.lr_policy == "poly":
        left = 1 - iteration / spec.max_iter if spec.max_iter else 0.0
        return base * max(0.0, left) ** spec.power
    if spec.lr_policy == "sigmoid":
        exponent = -spec.gamma * (iteration - spec.stepsize)
        return base / (1 + math.exp(exponent)) if exponent < 700 else 0.0
    return base


def _power(base: float, exponent: int) -> float:
    """Return base^exponent, infinite where it leaves a float's range."""
    try:
        return base ** exponent
    except OverflowError:
        return math.inf
