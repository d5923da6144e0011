import numpy as np
import pytest
from scipy import special

from atrouscaffe.ops.softmax import softmax
from atrouscaffe.runtime.threads import set_num_threads

SHAPES = [(2, 3, 16), (1, 5, 17), (2, 21, 300), (3, 2, 7), (1, 700, 33)]  # below, at and above the lanes; many channels


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_when_compared_with_float64_then_equal(shape):
    x = 8 * np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    y = np.full_like(x, np.nan)
    softmax(x, y)
    np.testing.assert_allclose(y, special.softmax(x.astype(np.float64), axis=1), rtol=1e-5, atol=1e-36)
    softmax(x, x)
    np.testing.assert_array_equal(x, y)


def test_softmax_when_scores_are_not_finite_then_as_the_formula_says():
    x = np.random.default_rng(2).standard_normal((1, 4, 40)).astype(np.float32)
    x[0, 1, 3], x[0, 2, 5], x[0, :, 7], x[0, 1, 9] = np.nan, np.inf, -np.inf, -np.inf
    y = np.empty_like(x)
    softmax(x, y)
    assert np.isnan(y[0, :, 3]).all() and np.isnan(y[0, :, 7]).all()
    assert np.isnan(y[0, 2, 5]) and y[0, 1, 9] == 0
    assert np.isfinite(np.delete(y, [3, 5, 7], axis=2)).all()


def test_softmax_when_threads_change_then_the_same_bits():
    x = np.random.default_rng(3).standard_normal((2, 19, 100_000)).astype(np.float32)
    y, one = np.empty_like(x), np.empty_like(x)
    try:
        set_num_threads(1)
        softmax(x, one)
        set_num_threads(3)
        softmax(x, y)
    finally:
        set_num_threads(None)
    np.testing.assert_array_equal(y, one)
