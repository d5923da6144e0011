"""Fillers: what parameters start from.

Source: ``filler.hpp`` of BVLC Caffe. The streams of random numbers are NumPy's, so single values differ
from Caffe's, their distributions do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Blueprint
from atrouscaffe.spec import Fields

__all__ = ["fill"]


def _fan(shape: tuple[int, ...], filler: Fields) -> float:
    """Return the number that xavier and msra divide by (``variance_norm``)."""
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[filler.variance_norm]


def _constant(shape: tuple[int, ...], filler: Fields, rng: np.random.Generator) -> np.ndarray:
    return np.full(shape, filler.value)


def _uniform(shape: tuple[int, ...], filler: Fields, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(filler.min, filler.max, shape)


def _gaussian(shape: tuple[int, ...], filler: Fields, rng: np.random.Generator) -> np.ndarray:
    values = rng.normal(filler.mean, filler.std, shape)
    if filler.sparse >= 0 and shape:
        probability = filler.sparse / shape[0]  # so many non-zero inputs for each output, on average
        if not 0 <= probability <= 1:
            raise LayerError(f"gaussian filler: sparse expected 0 to {shape[0]} (num_output), got {filler.sparse}")
        values *= rng.random(shape) < probability
    return values


def _positive_unitball(shape: tuple[int, ...], filler: Fields, rng: np.random.Generator) -> np.ndarray:
    values = rng.random(shape)
    axes = tuple(range(1, len(shape)))
    return values / values.sum(axis=axes, keepdims=True)


def _xavier(shape: tuple[int, ...], filler: Fields, rng: np.random.Generator) -> np.ndarray:
    scale = math.sqrt(3 / _fan(shape, filler))
    return rng.uniform(-scale, scale, shape)


def _msra(shape: tuple[int, ...], filler: Fields, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, math.sqrt(2 / _fan(shape, filler)), shape)


def _bilinear(shape: tuple[int, ...], filler: Fields, rng: np.random.Generator) -> np.ndarray:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise LayerError(f"bilinear filler: expected a square kernel of 4 axes, got shape {shape}")
    factor = math.ceil(shape[3] / 2)
    centre = (shape[3] - 1) / (2 * factor)
    line = 1 - np.abs(np.arange(shape[3]) / factor - centre)
    return np.broadcast_to(np.outer(line, line), shape)


FILLERS: dict[str, Callable[[tuple[int, ...], Fields, np.random.Generator], np.ndarray]] = {
    "constant": _constant, "uniform": _uniform, "gaussian": _gaussian, "positive_unitball": _positive_unitball,
    "xavier": _xavier, "msra": _msra, "bilinear": _bilinear,
}


def fill(blueprint: Blueprint, rng: np.random.Generator) -> np.ndarray:
    """Return starting values for a parameter blob.

    Parameters
    ----------
    blueprint : Blueprint
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, of the blueprint's shape

    Raises
    ------
    LayerError
        Unknown filler, or one that does not fit the shape.
    """
    if blueprint.filler is None:
        return np.full(blueprint.shape, blueprint.value)
    kind = blueprint.filler.type or "constant"
    if kind not in FILLERS:
        raise LayerError(f"unknown filler {kind!r}; expected one of {', '.join(sorted(FILLERS))}")
    return FILLERS[kind](tuple(blueprint.shape), blueprint.filler, rng)
