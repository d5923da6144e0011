"""Largest channels and places of labels on a device against the CPU's: ties, NaN."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.ops.argmax import argmax, label_ranks, top_channels
from tests.ops.on_device import compare, devices

pytestmark = devices


@pytest.mark.parametrize("shape", [(2, 5, 7), (3, 1, 4), (2, 21, 1), (9, 64, 1), (5, 1000, 1)])
@pytest.mark.parametrize("strange", [False, True], ids=["finite", "NaN"])
def test_all_of_them(shape, strange, device, rng):
    x = rng.integers(0, 4, shape).astype(np.float32)
    if strange:
        x[rng.random(shape) < min(0.2, 2 / shape[1])] = np.nan
        x[rng.random(shape) < 0.2] = -np.inf
    labels = rng.integers(0, shape[1], (shape[0], shape[2])).astype(np.int32)

    def work(x, labels):
        return (argmax(x), *(top_channels(x, k) for k in range(1, min(4, shape[1]) + 1)))

    def ranks(x, labels):
        return label_ranks(x, labels), label_ranks(x, labels, True)

    compare(device, work, x, labels, tolerance=0)
    compare(device, ranks, np.nan_to_num(x, nan=7), labels, tolerance=0)
