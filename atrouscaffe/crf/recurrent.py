"""Mean field as CRF-as-RNN writes it: label-by-label matrices instead of weights, and scores in place of beliefs.

Each iteration is ``h' = U - C (A F_1 q + B F_2 q)`` with ``q = softmax(h)``, the scores U, the normalised
filters F_1 (places) and F_2 (places and colours), and the (L, L) matrices A, B and C (Zheng et al. 2015;
``meanfield_iteration.cpp``). Lattices and normalisations are constants of the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atrouscaffe.runtime.backend import module_of

__all__ = ["Stages", "backward", "forward"]


@dataclass(frozen=True, eq=False)
class Stages:
    """What forward left for backward.

    Attributes
    ----------
    scores : (L, N) array
        After the last iteration.
    beliefs : list of (L, N) array
        At the start of each iteration.
    """

    scores: Any
    beliefs: list[Any]


def _beliefs(scores: Any) -> Any:
    out = module_of(scores).exp(scores - scores.max(axis=0))
    out /= out.sum(axis=0)
    return out


def forward(filters: Sequence[Any], unary: Any, start: Any, weights: Sequence[Any], compatibility: Any,
            iterations: int, *, keep: bool = True) -> Stages:
    """Run the iterations.

    Parameters
    ----------
    filters : sequence of Kernel or DeviceKernel
        Of weight 1.
    unary, start : (L, N) array
        Scores; the first beliefs are the softmax of `start`.
    weights : sequence of (L, L) array
        One for each filter.
    compatibility : (L, L) array
    iterations : int
        At least 1.
    keep : bool
        Keep the beliefs, which `backward` reads.
    """
    scores, beliefs = start, []
    for _ in range(iterations):
        q = _beliefs(scores)
        if keep:
            beliefs.append(q)
        message = sum(matrix @ kernel.apply(q) for kernel, matrix in zip(filters, weights))
        scores = unary - compatibility @ message
    return Stages(scores, beliefs)


def backward(filters: Sequence[Any], stages: Stages, weights: Sequence[Any], compatibility: Any,
             gradient: Any) -> tuple[Any, Any, list[Any], Any]:
    """Return the gradients of unary, start, each of the weights, and the compatibility.

    Parameters
    ----------
    filters, weights, compatibility
        As in `forward`.
    stages : Stages
    gradient : (L, N) array
        With respect to the last scores.
    """
    xp = module_of(gradient)
    unary, slopes = xp.zeros_like(gradient), [xp.zeros_like(matrix) for matrix in weights]
    mixing = xp.zeros_like(compatibility)
    for q in reversed(stages.beliefs):
        unary += gradient
        filtered = [kernel.apply(q) for kernel in filters]
        message = sum(matrix @ values for matrix, values in zip(weights, filtered))
        mixing -= gradient @ message.T
        arriving = -(compatibility.T @ gradient)
        change = xp.zeros_like(q)
        for kernel, matrix, values, slope in zip(filters, weights, filtered, slopes):
            slope += arriving @ values.T
            change += kernel.apply(matrix.T @ arriving, transpose=True)
        gradient = q * (change - (change * q).sum(axis=0))
    return unary, gradient, slopes, mixing
