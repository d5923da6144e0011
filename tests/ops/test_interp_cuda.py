"""Resizing on a device against the CPU's."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.ops.interp import resize, resize_adjoint
from tests.ops.on_device import compare, devices

pytestmark = devices


@pytest.mark.parametrize(("size", "out", "crop"), [
    ((7, 9), (13, 17), (0, 0)), ((7, 9), (4, 3), (0, 0)), ((1, 1), (5, 7), (0, 0)), ((5, 7), (1, 1), (0, 0)),
    ((1, 9), (4, 30), (0, 0)), ((9, 8), (5, 1), (1, 2)), ((9, 11), (6, 8), (2, 1)), ((9, 11), (6, 8), (3, 0)),
    ((41, 33), (321, 257), (0, 0)), ((200, 3), (41, 100), (1, 0)), ((5, 7), (5, 8), (0, 0))])
@pytest.mark.parametrize("planes", [(2, 3), (1, 1), (1, 8)])
def test_resize_and_its_adjoint(size, out, crop, planes, device, rng):
    x, dy = rng.standard_normal((*planes, *size)), rng.standard_normal((*planes, *out))

    def work(x, y, dy, dx):
        resize(x, y, crop)
        resize_adjoint(dy, dx, crop)

    compare(device, work, x, np.full_like(dy, np.nan), dy, np.full_like(x, np.nan))
    single = [array.astype(np.float32) for array in (x, dy, dy, x)]
    compare(device, work, *single, tolerance=1e-5)


def test_positions_are_those_of_the_cpu_to_the_last_bit(device, rng):
    """Sizes at which float32 positions are rounded; labels that are interpolated would show another pixel."""
    for size, out in ((41, 321), (65, 513), (306, 39), (1000, 999), (37, 1025)):
        x = rng.integers(0, 2**20, (1, 1, size, size)).astype(np.float64)
        compare(device, resize, x, np.empty((1, 1, out, out)), tolerance=1e-15)
