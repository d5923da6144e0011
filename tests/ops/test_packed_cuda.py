"""Pooling of packed values on a device against the CPU's of plain ones."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.ops import pool
from atrouscaffe.ops.conv_implicit_cuda import pack_activations
from atrouscaffe.ops.packed import packed_pool, packed_view
from atrouscaffe.runtime.backend import get_backend
from tests.ops.on_device import devices
from tests.ops.test_pool_cuda import geometry

pytestmark = devices
LOWEST = -65504.0
"""Of half precision: what a maximum over no pixel becomes."""


@pytest.mark.parametrize("average", [False, True], ids=["MAX", "AVE"])
@pytest.mark.parametrize("seed", range(12))
def test_any_windows(seed, average, device):
    draw, size, windows, out = geometry(seed)  # some windows lie behind the image
    x = draw.integers(-9, 10, (2, 13, *size)).astype(np.float32)
    y = np.empty((2, 13, *out), np.float32)
    (pool.average_pool if average else pool.max_pool)(x, y, windows)
    backend = get_backend(device, "fp16")
    with backend.active():
        below, above = backend.asarray(x), backend.zeros(y.shape, np.float32)
        packed_view(below)[...] = pack_activations(below, "fp16")
        packed_pool(below, above, windows, average)
        found = backend.to_numpy(packed_view(above))[:, :, 0, :13].swapaxes(1, 2)
    np.testing.assert_allclose(found.reshape(y.shape), np.maximum(y, LOWEST), rtol=6e-4, atol=0)
