"""Masks of dropout: on a device the numbers of Philox 4x32-10, element by element."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.ops.dropout import apply_mask, dropout
from atrouscaffe.runtime.backend import get_backend, on_device

SIZES = [1, 3, 4, 1001, 5 * 7 * 300]


def philox(counter: int, seed: int) -> list[int]:
    """Four words for a counter of one word, straight from the paper's figure (Salmon et al., 2011)."""
    words, keys = [counter, 0, 0, 0], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * words[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * words[2], 1 << 32)
        words = [high1 ^ words[1] ^ keys[0], low1, high0 ^ words[3] ^ keys[1], low0]
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return words


def expected_mask(size: int, ratio: float, seed: int) -> np.ndarray:
    groups = -(-size // 4)
    words = np.array([philox(g, seed) for g in range(groups)]).T.reshape(-1)[:size]
    return (words >> 8).astype(np.float32) * np.float32(2.0**-24) >= np.float32(ratio)


def test_reference_gives_the_published_numbers():
    assert philox(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # known answers of Random123


@pytest.mark.parametrize("size", SIZES)
def test_mask_is_applied_forward_and_backward(size, device, rng):
    backend, ratio = get_backend(device), 0.3
    x, dy = (rng.uniform(1, 2, size).astype(np.float32) for _ in range(2))
    with backend.active():
        below, above = backend.asarray(x), backend.zeros((size,), np.float32)
        mask = dropout(below, above, ratio, np.random.default_rng(8))
        kept, y = backend.to_numpy(mask), backend.to_numpy(above)
        grad = backend.asarray(dy.copy())
        apply_mask(mask, grad, grad, ratio)
        dx = backend.to_numpy(grad)
    np.testing.assert_allclose(y, x * kept / (1 - ratio), rtol=1e-6)
    np.testing.assert_allclose(dx, dy * kept / (1 - ratio), rtol=1e-6)
    if on_device(mask):
        seed = int(np.random.default_rng(8).integers(0, 2**63))
        np.testing.assert_array_equal(kept, expected_mask(size, ratio, seed))


def test_mask_in_place_is_the_same(device, rng):
    backend = get_backend(device)
    x = rng.uniform(1, 2, 1001).astype(np.float32)
    with backend.active():
        apart, inside = backend.zeros((1001,), np.float32), backend.asarray(x.copy())
        dropout(backend.asarray(x), apart, 0.5, np.random.default_rng(8))
        dropout(inside, inside, 0.5, np.random.default_rng(8))
        np.testing.assert_array_equal(backend.to_numpy(apart), backend.to_numpy(inside))
