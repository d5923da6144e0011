import numpy as np
import pytest

from atrouscaffe.ops.channels import affine, blend, channel_moments, channel_sums, three_axes
from atrouscaffe.runtime.threads import set_num_threads

RNG = np.random.default_rng(0)
SHAPES = [(2, 3, 5), (1, 7, 40000), (3000, 5, 2), (40000, 3, 1), (1, 1, 1), (3, 300, 211)]


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_when_scale_or_shift_then_by_channel(shape):
    x, scale, shift = RNG.standard_normal(shape), RNG.standard_normal(shape[1]), RNG.standard_normal(shape[1])
    out = np.empty_like(x)
    affine(x, scale, shift, out)
    np.testing.assert_allclose(out, x * scale[:, None] + shift[:, None], atol=1e-12)
    affine(x, None, shift, out)
    np.testing.assert_array_equal(out, x + shift[:, None])
    affine(x, scale, None, out)
    np.testing.assert_array_equal(out, x * scale[:, None])
    affine(x, None, None, out)
    np.testing.assert_array_equal(out, x)
    other = out.copy()
    affine(other, scale, shift, other)
    np.testing.assert_allclose(other, x * scale[:, None] + shift[:, None], atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", ["new", "x", "y"])
def test_blend_when_the_output_is_an_input_then_still_right(shape, target):
    x, y = RNG.standard_normal(shape), RNG.standard_normal(shape)
    p, q, shift = RNG.standard_normal((3, shape[1]))
    want = x * p[:, None] + y * q[:, None] + shift[:, None]
    out = {"new": np.empty_like(x), "x": x, "y": y}[target]
    blend(x, p, y, q, shift, out)
    np.testing.assert_allclose(out, want, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_sums_when_float32_then_near_float64(shape):
    x, y = (RNG.standard_normal(shape).astype(np.float32) + 2 for _ in range(2))
    wide, other = x.astype(np.float64), y.astype(np.float64)
    np.testing.assert_allclose(channel_sums(x), wide.sum(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(channel_sums(x, y), (wide * other).sum(axis=(0, 2)), rtol=1e-6)
    mean, variance = channel_moments(x)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var(axis=(0, 2)), rtol=1e-5, atol=1e-6)
    assert mean.dtype == np.float32


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
