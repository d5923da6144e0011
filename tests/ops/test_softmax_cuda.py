"""Softmax and cross entropies on a device against the CPU's: maps and rows, infinite scores, weights."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.ops import softmax as ops
from tests.ops.on_device import compare, devices, empty_like

pytestmark = devices
SHAPES = [(2, 5, 7), (3, 1, 4), (1, 21, 300), (4, 63, 1), (3, 64, 1), (2, 1000, 1), (700, 2, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_and_gradient(shape, dtype, device, rng):
    x, dy = (rng.standard_normal(shape).astype(dtype) * 9 for _ in range(2))

    def work(x, dy):
        y, dx = empty_like(x), empty_like(x)
        ops.softmax(x, y)
        ops.softmax_grad(y, dy, dx)
        ops.softmax(x, x)
        ops.softmax_grad(y, dy, dy)
        return y, dx

    compare(device, work, x, dy, tolerance=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("shape", [(2, 5, 7), (3, 70, 1)])
@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, 1e30])
@pytest.mark.parametrize("where", [0, 1, 4, slice(0, 3), slice(None)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_not_finite(shape, value, where, device, rng):
    x = rng.standard_normal(shape)
    x[1, where] = value
    labels = rng.integers(0, shape[1], (shape[0], shape[2])).astype(np.int32)

    def work(x, labels):
        y = empty_like(x)
        ops.softmax(x, y)
        return y, ops.cross_entropy(x, labels, None)

    compare(device, work, x, labels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", ["none", "some", "all"])
def test_cross_entropy(shape, weighted, ignored, device, rng):
    x = rng.standard_normal(shape) * 30
    labels = rng.integers(0, shape[1], (shape[0], shape[2])).astype(np.int32)
    if ignored != "none":
        labels[:: 1 if ignored == "all" else 2] = -1
    weights = rng.random(labels.shape) if weighted else None

    def work(x, labels, weights, dx):
        total = ops.cross_entropy(x, labels, weights)
        ops.cross_entropy_grad(x, labels, weights, 0.7, dx)
        return total

    compare(device, work, x, labels, weights, np.full_like(x, np.nan))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("partly", [False, True])
def test_soft_cross_entropy(shape, temperature, partly, device, rng):
    x, target = rng.standard_normal(shape) * 5, rng.standard_normal(shape) * 5
    counted = rng.random((shape[0], shape[2])) < 0.6 if partly else None

    def work(x, target, counted, dx):
        total = ops.soft_cross_entropy(x, target, counted, temperature)
        ops.soft_cross_entropy_grad(x, target, counted, temperature, 0.7, dx)
        return total

    compare(device, work, x, target, counted, np.full_like(x, np.nan))
