"""Gradients of mean field through its unrolled iterations, and learning of kernel weights.

Each update is ``Q' = softmax(-U + sum over kernels of C F Q)`` with F the normalised filter and C
the compatibility. Backward, F becomes its transpose: the lattice with its axes in the opposite
order. Lattices and normalisations are constants. (Krähenbühl and Koltun 2013; Zheng et al. 2015,
"CRF as RNN". The layer of DeepLab has no backward.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.backend import module_of

__all__ = ["Gradients", "Learning", "Trace", "backward", "fit_weights", "forward", "label_loss",
           "unary_gradient"]


@dataclass(frozen=True, eq=False)
class Trace:
    """Beliefs of every iteration, (L, N) each, which backward reads.

    Attributes
    ----------
    beliefs : list of (L, N) array
    """

    beliefs: list[np.ndarray]

    @property
    def last(self) -> np.ndarray:
        """Beliefs after the last update."""
        return self.beliefs[-1]


@dataclass(eq=False)
class Gradients:
    """Derivatives of a loss.

    Attributes
    ----------
    unary : (L, N)
    weights : list of float, one a kernel
    compatibilities : list of None, (L,) or (L, L), one a kernel
        Entry by entry: both entries of a pair of labels add where a matrix is to stay symmetric.
    """

    unary: np.ndarray
    weights: list[float]
    compatibilities: list[np.ndarray | None]


def _softmax(logits: Any) -> Any:
    out = module_of(logits).exp(logits - logits.max(axis=0))
    out /= out.sum(axis=0)
    return out


def forward(crf: DenseCRF, iterations: int = 10, *, unary: np.ndarray | None = None) -> Trace:
    """Run mean field and keep the beliefs of every iteration.

    Parameters
    ----------
    crf : DenseCRF
    iterations : int
    unary : (L, N), optional
        Energies in place of the CRF's, where its lattices are; float64 for checks of gradients.
    """
    if isinstance(iterations, bool) or not isinstance(iterations, (int, np.integer)) or iterations < 0:
        raise ArgumentError(f"iterations: expected a whole number of at least 0, got {iterations!r}")
    energies = crf.energies if unary is None else unary.reshape(crf.labels, crf.points)
    beliefs = [_softmax(-energies)]
    for _ in range(iterations):
        logits = -energies
        for kernel in crf.kernels:
            logits = logits + kernel.mix(kernel.apply(beliefs[-1]))
        beliefs.append(_softmax(logits))
    return Trace(beliefs)


def backward(crf: DenseCRF, trace: Trace, gradient: np.ndarray) -> Gradients:
    """Return the gradients of a loss from its gradient with respect to the last beliefs.

    Parameters
    ----------
    crf : DenseCRF
        As in `forward`.
    trace : Trace
    gradient : array of the size of the beliefs
    """
    xp = module_of(trace.last)
    incoming = xp.asarray(gradient)
    if incoming.size != trace.last.size:
        raise ArgumentError(f"gradient: expected the beliefs' size {trace.last.shape}, got {incoming.shape}")
    incoming = incoming.reshape(trace.last.shape)
    unary = xp.zeros_like(trace.last)
    weights = [0.0] * len(crf.kernels)
    patterns = [None if kernel.pattern is None else xp.zeros(kernel.pattern.shape) for kernel in crf.kernels]
    for t in range(len(trace.beliefs) - 1, -1, -1):
        q = trace.beliefs[t]
        logits = q * (incoming - (incoming * q).sum(axis=0))
        unary -= logits
        if t == 0:
            break
        before = trace.beliefs[t - 1]
        incoming = xp.zeros_like(before)
        for k, kernel in enumerate(crf.kernels):
            filtered = kernel.apply(before)
            weights[k] += float((logits * kernel.mix(filtered)).sum()) / kernel.weight if kernel.weight else float(
                (logits * _unit(kernel, filtered)).sum())
            if kernel.pattern is not None:
                change = (logits * filtered).sum(axis=1) if kernel.pattern.ndim == 1 else -logits @ filtered.T
                patterns[k] += kernel.weight * change
            incoming += kernel.apply(kernel.mix(logits), transpose=True)  # patterns are symmetric
    return Gradients(unary, weights, patterns)


def _unit(kernel: Any, filtered: Any) -> Any:
    """Return what a kernel of weight 1 would add to the logits."""
    if kernel.pattern is None:
        return filtered
    pattern = module_of(filtered).asarray(kernel.pattern)
    return filtered * pattern[:, None] if pattern.ndim == 1 else -pattern @ filtered


def unary_gradient(crf: DenseCRF, iterations: int, gradient: np.ndarray) -> np.ndarray:
    """Return the gradient with respect to the unary energies, in the unary's shape: the net layer's backward.

    Parameters
    ----------
    crf : DenseCRF
        With the labels at axis 0.
    iterations : int
    gradient : (L, H, W)
        With respect to the beliefs after `iterations` updates.
    """
    return backward(crf, forward(crf, iterations), gradient).unary.reshape(crf.labels, *crf.shape)


def label_loss(beliefs: np.ndarray, truth: np.ndarray, ignore: int = 255) -> tuple[float, np.ndarray]:
    """Return the mean -log belief of the true labels, and its gradient.

    Parameters
    ----------
    beliefs : (L, N)
    truth : array of N whole numbers
    ignore : int
        Label of points that do not count.
    """
    flat = np.asarray(truth).ravel()
    if flat.size != beliefs.shape[1] or flat.dtype.kind not in "iu":
        raise ArgumentError(f"truth: expected {beliefs.shape[1]} whole numbers, got {flat.size} of dtype {flat.dtype}")
    points = np.nonzero(flat != ignore)[0]
    known = flat[points].astype(np.int64)
    if known.size and not (known.min() >= 0 and known.max() < len(beliefs)):
        raise ArgumentError(f"truth: expected labels 0 … {len(beliefs) - 1} or {ignore}, "
                            f"got {known.min()} … {known.max()}")
    gradient = np.zeros_like(beliefs)
    if not known.size:
        return 0.0, gradient
    chosen = np.maximum(beliefs[known, points], 1e-12)
    gradient[known, points] = -1 / (chosen * known.size)
    return float(-np.log(chosen).mean()), gradient


@dataclass(eq=False)
class Learning:
    """What `fit_weights` found.

    Attributes
    ----------
    weights : list of float
        Of the step with the smallest loss.
    losses : list of float
        Mean loss before each step, and after the last.
    """

    weights: list[float]
    losses: list[float] = field(default_factory=list)


def fit_weights(samples: Sequence[tuple[DenseCRF, np.ndarray]], *, steps: int = 10, rate: float = 0.1,
                iterations: int = 5, ignore: int = 255) -> Learning:
    """Learn the kernels' weights on images with ground truth, by Adam on the log-likelihood.

    Parameters
    ----------
    samples : sequence of (DenseCRF, (H, W) labels)
        CRFs with the same kernels in the same order; their weights change.
    steps : int
    rate : float
        Step size, relative to each weight (learning goes on in its logarithm, so signs stay).
    iterations : int
        Mean-field updates.
    ignore : int

    Raises
    ------
    ArgumentError
        No samples, different numbers of kernels, or a weight that is not positive.
    """
    if not samples or len({len(crf.kernels) for crf, _ in samples}) != 1 or not samples[0][0].kernels:
        raise ArgumentError("samples: expected CRFs with the same kernels, at least one of each")
    start = np.array([kernel.weight for kernel in samples[0][0].kernels])
    if not (start > 0).all():
        raise ArgumentError(f"samples: expected kernels of positive weight to start from, got {start.tolist()}")
    position = np.log(start)
    mean, square = np.zeros_like(position), np.zeros_like(position)
    learned = Learning(start.tolist())
    for step in range(1, steps + 2):
        loss, slope = 0.0, np.zeros_like(position)
        for crf, truth in samples:
            for k, value in enumerate(np.exp(position)):
                crf.set_weight(k, value)
            trace = forward(crf, iterations)
            one, gradient = label_loss(trace.last, truth, ignore)
            loss += one / len(samples)
            slope += np.array(backward(crf, trace, gradient).weights) * np.exp(position) / len(samples)
        if not learned.losses or loss < min(learned.losses):
            learned.weights = np.exp(position).tolist()
        learned.losses.append(loss)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        moved = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-12)
        position = position - rate * moved
    for crf, _ in samples:
        for k, value in enumerate(learned.weights):
            crf.set_weight(k, value)
    return learned
