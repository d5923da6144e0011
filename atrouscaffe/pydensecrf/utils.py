"""pydensecrf's helper functions: unaries from labels and probabilities, features of grids and images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Number

import numpy as np

from atrouscaffe.crf import unary
from atrouscaffe.crf.features import sigmas
from atrouscaffe.errors import ArgumentError

__all__ = ["compute_unary", "create_pairwise_bilateral", "create_pairwise_gaussian", "softmax_to_unary",
           "unary_from_labels", "unary_from_softmax"]


def unary_from_labels(labels: np.ndarray, n_labels: int, gt_prob: float, zero_unsure: bool = True) -> np.ndarray:
    """Return energies (n_labels, N) of a label map that is right with probability `gt_prob`.

    Parameters
    ----------
    labels : array of whole numbers
        With `zero_unsure`, 0 means unknown and the labels are 1 … n_labels; else 0 … n_labels-1.
        The default is the peer's, and takes a background numbered 0 for unknown.
    n_labels : int
    gt_prob : float
    zero_unsure : bool
    """
    array = np.asarray(labels).ravel()
    if array.dtype.kind not in "iub":
        raise ArgumentError(f"labels: expected whole numbers, got dtype {array.dtype}")
    if zero_unsure:
        return unary.from_labels(array.astype(np.int64) - 1, n_labels, gt_prob, unsure=-1)
    return unary.from_labels(array, n_labels, gt_prob)


def compute_unary(labels: np.ndarray, M: int, GT_PROB: float = 0.5) -> np.ndarray:
    """Return ``unary_from_labels(labels, M, GT_PROB)``; deprecated by the peer."""
    warnings.warn("compute_unary is deprecated: use unary_from_labels", DeprecationWarning, stacklevel=2)
    return unary_from_labels(labels, M, GT_PROB)


def unary_from_softmax(sm: np.ndarray, scale: float | None = None, clip: float | None = 1e-5) -> np.ndarray:
    """Return energies (labels, N) of probabilities (labels, …).

    Parameters
    ----------
    sm : (L, …) array
    scale : float, optional
        Share of `sm` in a mixture with the uniform distribution, in (0, 1].
    clip : float, optional
        Smallest probability: smaller ones, also negative ones, become it, and those above 1 become 1. None makes
        zeros forbid a label.
    """
    array = np.asarray(sm)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        raise ArgumentError(f"sm: expected an array of numbers with the labels first, got {array.dtype} {array.shape}")
    array = array.astype(np.float64)
    if scale is not None:
        if not 0 < scale <= 1:
            raise ArgumentError(f"scale: expected a number above 0 and at most 1, got {scale}")
        array = scale * array + (1 - scale) / array.shape[0]
    energies = unary.from_probabilities(array if clip is None else np.clip(array, clip, 1), clip=clip)
    return energies.reshape(array.shape[0], -1)


def softmax_to_unary(sm: np.ndarray, GT_PROB: float = 1) -> np.ndarray:
    """Return ``unary_from_softmax(sm, GT_PROB, clip=None)``; deprecated by the peer."""
    warnings.warn("softmax_to_unary is deprecated: use unary_from_softmax", DeprecationWarning, stacklevel=2)
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def _mesh(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Return coordinates over their sigmas, first axis first, (d, *shape) float32."""
    values = sigmas(sdims, len(shape), "sdims")
    axes = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    return np.stack([axis / np.float32(s) for axis, s in zip(axes, values)])


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Return position features (d, N), first axis first: not the order of ``DenseCRF2D``."""
    return _mesh(sdims, shape).reshape(len(shape), -1)


def create_pairwise_bilateral(sdims: Sequence[float], schan: float | Sequence[float], img: np.ndarray,
                              chdim: int = -1) -> np.ndarray:
    """Return position and channel features (d + C, N), first axis first.

    Parameters
    ----------
    sdims : sequence of float
    schan : float or sequence of float
    img : array
    chdim : int
        Axis of the channels; -1 if there is none.
    """
    array = np.asarray(img)
    if array.dtype.kind not in "fiub" or array.size == 0 or not -1 <= chdim < array.ndim:
        raise ArgumentError(f"img: expected numbers with channels at axis {chdim}, got {array.dtype} {array.shape}")
    channels = (array[None] if chdim == -1 else np.moveaxis(array, chdim, 0)).astype(np.float32)
    if not isinstance(schan, Number) and len(schan) != len(channels):
        raise ArgumentError(f"schan: expected one number or {len(channels)}, got {len(schan)}")
    values = np.array(sigmas(schan, len(channels), "schan"), np.float32)
    channels /= values.reshape(-1, *[1] * (channels.ndim - 1))
    return np.concatenate([_mesh(sdims, channels.shape[1:]), channels]).reshape(
        channels.ndim - 1 + len(channels), -1)
