"""ArgMax in its three forms against NumPy's stable sorting."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from tests.layers.one_layer import forward, small_net

SHAPE = (2, 5, 3, 7)


def layer(options: str = "") -> str:
    return f'layer {{ name: "l" type: "ArgMax" bottom: "x" top: "y" argmax_param {{ {options} }} }}'


def run(x, options, dialect, device):
    return forward(layer(options), {"x": x}, dialect=dialect, force=False, dtype=np.float32, device=device)


def top(x, k, axis):
    """The k largest, larger indices first among equals: pairs sorted as C++ sorts them."""
    def first(row):
        return [i for _, i in sorted(zip(row, range(len(row))), reverse=True)][:k]

    return np.apply_along_axis(first, axis, x)


@pytest.fixture(params=["distinct", "ties"])
def x(request, rng):
    values = rng.standard_normal(SHAPE) if request.param == "distinct" else rng.integers(0, 3, SHAPE)
    return values.astype(np.float32)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("axis", [0, 1, -1, 2])
def test_along_an_axis(x, axis, k, device):
    k = min(k, SHAPE[axis])
    indices = top(x, k, axis)
    assert np.array_equal(run(x, f"axis: {axis} top_k: {k}", "bvlc", device), indices)
    values = run(x, f"axis: {axis} top_k: {k} out_max_val: true", "bvlc", device)
    assert np.array_equal(values, np.take_along_axis(x, indices, axis))


@pytest.mark.parametrize("k", [1, 3])
def test_flattened_is_v2s_and_bvlcs_way(x, k, device):
    flat = x.reshape(2, -1)
    indices = top(flat, k, 1)
    for dialect in ("v2", "bvlc"):
        out = run(x, f"top_k: {k}", dialect, device)
        assert out.shape == (2, 1, k, 1) and np.array_equal(out.reshape(2, k), indices)
        both = run(x, f"top_k: {k} out_max_val: true", dialect, device)
        assert both.shape == (2, 2, k, 1)
        assert np.array_equal(both[:, 0, :, 0], indices)
        assert np.array_equal(both[:, 1, :, 0], np.take_along_axis(flat, indices, 1))
    assert run(flat, f"top_k: {k}", "bvlc", device).shape == (2, 1, k)


@pytest.mark.parametrize("k", [1, 3])
def test_per_pixel_is_v1s_way(x, k, device):
    indices = top(x, k, 1)
    assert np.array_equal(run(x, f"top_k: {k}", "v1", device), indices)
    both = run(x, f"top_k: {k} out_max_val: true", "v1", device)
    assert np.array_equal(both, np.concatenate([indices, np.take_along_axis(x, indices, 1)], axis=1))


def test_large_maps_of_many_tiles(rng, device):
    x = rng.standard_normal((2, 21, 151, 173)).astype(np.float32)
    assert np.array_equal(run(x, "axis: 1", "bvlc", device)[:, 0], x.argmax(axis=1))


@pytest.mark.parametrize("options", ["top_k: 0", "axis: 1 top_k: 6", "axis: 4", "top_k: 106"])
def test_bad_options_are_named(options):
    with pytest.raises(LayerError, match="argmax_param"):
        small_net(layer(options), {"x": np.zeros(SHAPE)}, force=False)
