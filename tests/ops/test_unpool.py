"""Unpooling of masks that name a place twice, and of masks that name none."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import DataError
from atrouscaffe.ops.unpool import unpool, unpool_backward
from tests.ops.on_device import compare, devices, run


def arrays(rng):
    x, dy = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 7, 9))
    return x, rng.integers(0, 20, x.shape).astype(float), dy, x.copy()


def work(x, mask, y, dx):
    dy = y.copy()
    unpool(x, mask, y)
    unpool_backward(dy, mask, dx)


def test_a_later_value_wins(device, rng):
    x, mask, y, dx = arrays(rng)
    want, slope = np.zeros_like(y), np.zeros_like(x)
    for n, c, i in np.ndindex(2, 3, 20):
        want[n, c].flat[int(mask[n, c].flat[i])] = x[n, c].flat[i]
        slope[n, c].flat[i] = y[n, c].flat[int(mask[n, c].flat[i])]
    found = run(device, work, (x, mask, y, dx))
    np.testing.assert_array_equal(found[2], want)
    np.testing.assert_array_equal(found[3], slope)


@devices
def test_same_bits_on_every_run(device, rng):
    compare(device, work, *(array.astype(np.float32) for array in arrays(rng)), tolerance=0)


@pytest.mark.parametrize("value", [-1, 63, np.nan, np.inf])
def test_a_mask_outside_is_named(value, device, rng):
    x, mask, y, dx = arrays(rng)
    mask[1, 2, 3, 4] = value
    with pytest.raises(DataError, match="mask"):
        run(device, work, (x, mask, y, dx))
