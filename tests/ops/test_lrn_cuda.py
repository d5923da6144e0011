"""Local response normalisation on a device against the CPU's."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.ops.lrn import lrn_across, lrn_across_backward
from tests.ops.on_device import compare, devices, empty_like


@devices
@pytest.mark.parametrize("size", [1, 3, 5, 11])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_across_channels(size, dtype, device, rng):
    x, dy = rng.standard_normal((2, 2, 7, 33)).astype(dtype)

    def work(x, dy):
        y, dx = empty_like(x), empty_like(x)
        lrn_across(x, y, size, 0.7, 0.75, 1.5)
        lrn_across_backward(x, dy, dx, size, 0.7, 0.75, 1.5)
        return y, dx

    compare(device, work, x, dy, tolerance=1e-5 if dtype == np.float32 else 1e-13)
