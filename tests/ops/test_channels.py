import numpy as np
import pytest

from atrouscaffe.ops.channels import (
    affine,
    blend,
    channel_moments,
    channel_sums,
    move_statistics,
    normalizer,
    three_axes,
)
from atrouscaffe.runtime.backend import get_backend
from atrouscaffe.runtime.threads import set_num_threads

RNG = np.random.default_rng(0)
SHAPES = [(2, 3, 5), (1, 7, 40000), (3000, 5, 2), (40000, 3, 1), (1, 1, 1), (3, 300, 211)]


@pytest.fixture
def put(device):
    """Return a function that brings arrays to the device, and one that brings them back."""
    backend = get_backend(device)
    with backend.active():
        yield lambda *arrays: [backend.asarray(a.copy()) for a in arrays], backend.to_numpy


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_when_scale_or_shift_then_by_channel(shape, put):
    there, back = put
    x, scale, shift = RNG.standard_normal(shape), RNG.standard_normal(shape[1]), RNG.standard_normal(shape[1])
    source, by, plus, out = there(x, scale, shift, np.empty_like(x))
    affine(source, by, plus, out)
    np.testing.assert_allclose(back(out), x * scale[:, None] + shift[:, None], atol=1e-12)
    affine(source, None, plus, out)
    np.testing.assert_array_equal(back(out), x + shift[:, None])
    affine(source, by, None, out)
    np.testing.assert_array_equal(back(out), x * scale[:, None])
    affine(source, None, None, out)
    np.testing.assert_array_equal(back(out), x)
    other = out.copy()
    affine(other, by, plus, other)
    np.testing.assert_allclose(back(other), x * scale[:, None] + shift[:, None], atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", ["new", "x", "y"])
def test_blend_when_the_output_is_an_input_then_still_right(shape, target, put):
    there, back = put
    x, y = RNG.standard_normal(shape), RNG.standard_normal(shape)
    p, q, shift = RNG.standard_normal((3, shape[1]))
    want = x * p[:, None] + y * q[:, None] + shift[:, None]
    arrays = dict(zip(("x", "y", "new"), there(x, y, np.empty_like(x))))
    blend(arrays["x"], *there(p), arrays["y"], *there(q, shift), arrays[target])
    np.testing.assert_allclose(back(arrays[target]), want, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_sums_when_float32_then_near_float64(shape, put):
    there, back = put
    x, y = (RNG.standard_normal(shape).astype(np.float32) + 2 for _ in range(2))
    wide, other = x.astype(np.float64), y.astype(np.float64)
    first, second = there(x, y)
    np.testing.assert_allclose(back(channel_sums(first)), wide.sum(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(back(channel_sums(first, second)), (wide * other).sum(axis=(0, 2)), rtol=1e-6)
    mean, variance = (back(values) for values in channel_moments(first))
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var(axis=(0, 2)), rtol=1e-5, atol=1e-6)
    assert mean.dtype == np.float32


@pytest.mark.parametrize("factor", [None, 0.0, 2.5])
def test_normalizer_when_there_is_a_factor_then_statistics_are_divided_by_it(factor, put):
    there, back = put
    mean, variance = RNG.standard_normal(5), RNG.uniform(0.5, 2, 5)
    found = normalizer(*there(mean, variance), 1e-3, None if factor is None else there(np.array([factor]))[0])
    share = 1 if factor is None else 1 / factor if factor else 0
    inverse = 1 / np.sqrt(variance * share + 1e-3)
    np.testing.assert_allclose(back(found[0]), inverse, rtol=1e-12)
    np.testing.assert_allclose(back(found[1]), -mean * share * inverse, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 7])
def test_statistics_when_moved_then_old_ones_fade(count, put):
    there, back = put
    mean, variance, new, spread = RNG.uniform(1, 2, (4, 5))
    arrays = there(mean, variance, np.array([3.0]))
    move_statistics(*arrays, tuple(there(new, spread)), 0.75, count)
    correction = count / (count - 1) if count > 1 else 1
    np.testing.assert_allclose(back(arrays[0]), 0.75 * mean + new, rtol=1e-12)
    np.testing.assert_allclose(back(arrays[1]), 0.75 * variance + correction * spread, rtol=1e-12)
    np.testing.assert_allclose(back(arrays[2]), [0.75 * 3 + 1], rtol=1e-12)


def test_channels_when_threads_differ_then_same_bits():
    x = RNG.standard_normal((3, 70, 2011)).astype(np.float32)
    results = []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            results.append((channel_sums(x).tobytes(), channel_sums(x, x).tobytes(), channel_moments(x)[1].tobytes()))
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]


def test_three_axes_when_axes_are_missing_then_ones():
    x = np.zeros((2, 3, 4, 5))
    assert three_axes(x, 1, 3).shape == (2, 12, 5)
    assert three_axes(x, 0, 0).shape == (1, 1, 120)
    assert three_axes(np.zeros(()), 0, 0).shape == (1, 1, 1)
