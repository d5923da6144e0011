"""Pooling on a device against the CPU's."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.geometry import Window
from atrouscaffe.ops import pool
from tests.ops.on_device import compare, devices

pytestmark = devices


def geometry(seed):
    """Random sizes, windows and output; some windows hang over the image, some lie behind it."""
    draw = np.random.default_rng(seed)
    while True:
        size = draw.integers(1, 12, 2)
        kernel, stride = draw.integers(1, 6, 2), draw.integers(1, 5, 2)
        windows = tuple(Window(int(k), int(s), int(draw.integers(0, k))) for k, s in zip(kernel, stride))
        if all(n + 2 * w.pad >= w.kernel for n, w in zip(size, windows)):
            return draw, tuple(int(n) for n in size), windows, pool.pool_shape(size, windows)


def work(out, windows):
    """All of MAX and AVE, forward and backward."""
    def inner(x, y, dy, dx):
        pool.max_pool(x, y, windows)
        maxima, indices = y.copy(), pool.max_indices(x, (*x.shape[:2], *out), windows)
        pool.max_backward(dy, indices, dx, windows)
        first = dx.copy()
        pool.average_pool(x, y, windows)
        pool.average_backward(dy, dx, windows)
        return maxima, indices, first

    return inner


def arrays(draw, size, out, dtype=np.float64):
    x = draw.integers(-3, 4, (2, 3, *size)).astype(dtype)
    x[0, 0].flat[::3] = np.nan if draw.random() < 0.3 else 1
    dy = draw.standard_normal((2, 3, *out)).astype(dtype)
    return x, np.full_like(dy, np.nan), dy, np.full_like(x, np.nan)


@pytest.mark.parametrize("seed", range(40))
def test_any_windows(seed, device):
    draw, size, windows, out = geometry(seed)
    compare(device, work(out, windows), *arrays(draw, size, out))


@pytest.mark.parametrize(("size", "windows", "out"), [
    ((13, 17), (Window(13), Window(17)), (1, 1)), ((31, 29), (Window(8, 8, 1), Window(8, 8, 2)), (4, 4)),
    ((20, 20), (Window(11, 3), Window(9, 4, 1)), (4, 4)), ((64, 3), (Window(64), Window(1)), (1, 3))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_large_windows(size, windows, out, dtype, device, rng):
    compare(device, work(out, windows), *arrays(rng, size, out, dtype),
            tolerance=1e-12 if dtype == np.float64 else 1e-6)


@pytest.mark.parametrize(("size", "windows", "out"), [
    ((7, 9), (Window(3, 2), Window(3, 2)), (3, 4)), ((8, 9), (Window(3, 2), Window(2, 3)), (4, 4)),
    ((5, 7), (Window(1, 3), Window(2, 4)), (3, 3))])
def test_stochastic(size, windows, out, device, rng):
    x = np.abs(rng.standard_normal((2, 3, *size)).astype(np.float32))
    x[0, 0, :3] = 0
    y = np.empty((2, 3, *out), np.float32)
    chance, dy = rng.random(y.shape, np.float32), rng.standard_normal(y.shape).astype(np.float32)

    def pick(x, chance, y, dy, dx):
        indices = pool.stochastic_pick(x, chance, y, windows)
        pool.max_backward(dy, indices, dx, windows)
        return indices

    def average(x, y, dy, dx):
        pool.stochastic_average(x, y, windows)
        pool.stochastic_average_backward(x, y, dy, dx, windows)

    compare(device, pick, x, chance, y, dy, np.empty_like(x), tolerance=1e-6)
    compare(device, average, x.astype(np.float64), y.astype(np.float64), dy.astype(np.float64), x.astype(np.float64))
