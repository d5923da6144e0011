"""Bayesian SegNet's mean over several passes of a net that drops values when it is tested, and its uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.ops.softmax import softmax
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.spec import NetSpec

__all__ = ["Sampled", "check_samples", "sample_probabilities"]


class Sampled(NamedTuple):
    """What `Segmenter.sampled` finds in one image.

    Attributes
    ----------
    labels : (H, W) uint8
        The class of the largest mean probability.
    probabilities : (C, H, W) float32
        Mean over the passes, or what the CRF made of it.
    scores : (C, H, W) float32
        Logarithm of the mean.
    uncertainty : (H, W) float32
        Variance of each class's probability over the passes, averaged over the classes.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray
    uncertainty: np.ndarray


def check_samples(net: NetSpec, samples: int) -> None:
    """Raise ArgumentError unless that many passes over `net`, which is being tested, make sense."""
    if isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or samples < 1:
        raise ArgumentError(f"samples: expected a whole number of at least 1, got {samples!r}")
    dropouts = [spec for spec in net.layers if spec.type == "Dropout"]
    if samples > 1 and not any(spec.fields.dropout_param.sample_weights_test for spec in dropouts):
        found = f"{len(dropouts)} Dropout layers without it" if dropouts else "no Dropout layer"
        raise ArgumentError(f"samples: expected a net with dropout_param {{ sample_weights_test: true }}, since all "
                            f"{samples} passes would be the same without; got {found}", net.path)


def sample_probabilities(scores: Callable[[], Any], samples: int) -> tuple[Any, Any]:
    """Return the mean of the softmax over several passes, and its variance averaged over the classes.

    Parameters
    ----------
    scores : callable
        Makes one pass and returns its scores, (C, H, W) float32.
    samples : int
        At least 1.

    Returns
    -------
    mean : (C, H, W) float32 array
    variance : (H, W) float32 array
        Of all passes, as ``numpy.var``; where the scores are.
    """
    mean = spread = one = None
    for n in range(1, samples + 1):
        values = scores()
        flat = (1, values.shape[0], values.shape[1] * values.shape[2])
        if mean is None:
            xp = module_of(values)
            mean, spread, one = xp.zeros_like(values), xp.zeros_like(values), xp.empty_like(values)
        softmax(values.reshape(flat), one.reshape(flat))
        before = one - mean  # Welford's sums: no difference of large squares
        mean += before / np.float32(n)
        spread += before * (one - mean)
    return mean, spread.mean(axis=0) / np.float32(samples)
