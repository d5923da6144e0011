import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.errors import ShapeError
from atrouscaffe.geometry import Window
from atrouscaffe.ops import pool
from atrouscaffe.runtime.threads import set_num_threads
from tests import naive


def draw_windows(data, least=1):
    windows, size = [], []
    for _ in range(2):
        kernel = data.draw(st.integers(1, 4))
        windows.append(Window(kernel, data.draw(st.integers(1, kernel)), data.draw(st.integers(0, kernel - 1))))
        size.append(data.draw(st.integers(max(least, kernel), 11)))
    return windows, size


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_pool_when_geometry_is_arbitrary_then_equals_loops(data):
    windows, size = draw_windows(data)
    out = pool.pool_shape(size, windows)
    x = np.random.default_rng(data.draw(st.integers(0, 50))).integers(-4, 5, (2, 3, *size)).astype(np.float32)
    plain = [tuple(getattr(w, what) for w in windows) for what in ("kernel", "stride", "pad")]
    y = np.full((2, 3, *out), np.nan, np.float32)
    pool.max_pool(x, y, windows)
    want, mask = naive.pool(x, *plain, out, "MAX")
    np.testing.assert_array_equal(y, want)
    indices = pool.max_indices(x, y.shape, windows)
    np.testing.assert_array_equal(indices, mask)  # many ties: the first one counts
    pool.average_pool(x, y, windows)
    np.testing.assert_allclose(y, naive.pool(x, *plain, out, "AVE")[0], atol=1e-6)
    # backward: adjoints, exact in float64 up to rounding
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = np.full(x.shape, np.nan)
    pool.average_backward(dy, dx, windows)
    average = np.empty_like(dy)
    pool.average_pool(x.astype(np.float64), average, windows)
    assert abs((average * dy).sum() - (x * dx).sum()) < 1e-10
    pool.max_backward(dy, indices, dx, windows)
    assert abs((want * dy).sum() - (x * dx).sum()) < 1e-10
    assert np.count_nonzero(dx) <= dy.size


@pytest.mark.parametrize(("size", "window", "floor", "want"), [
    (9, Window(2, 2), False, 5), (8, Window(3, 2, 1), False, 5), (8, Window(3, 2, 1), True, 4),
    (5, Window(2, 2, 1), False, 3), (514, Window(2, 2, 1), False, 258), (306, Window(3, 2, 1), False, 154)])
def test_pool_shape_when_caffe_rounds_then_so_do_we(size, window, floor, want):
    assert pool.pool_shape((size, size), (window, window), floor) == (want, want)


def test_pool_shape_when_one_axis_is_padded_then_both_drop_a_window_behind_the_image():
    assert pool.pool_shape((7, 7), (Window(2, 4, 0), Window(2, 2, 1))) == (2, 4)
    assert pool.pool_shape((7, 7), (Window(2, 4, 0), Window(2, 2, 0))) == (3, 4)


def test_pool_shape_when_pad_reaches_the_kernel_then_refused():
    with pytest.raises(ShapeError, match="smaller than the kernel"):
        pool.pool_shape((7, 7), (Window(2, 1, 2), Window(2)))


def test_pool_when_a_window_lies_behind_the_image_then_lowest_zero_and_no_gradient():
    windows = (Window(2, 4), Window(1))
    x = np.ones((1, 1, 7, 1), np.float32)
    y = np.empty((1, 1, 3, 1), np.float32)
    pool.max_pool(x, y, windows)
    assert y[0, 0, 2, 0] == -np.finfo(np.float32).max
    indices = pool.max_indices(x, y.shape, windows)
    assert indices[0, 0, 2, 0] == -1
    dx = np.empty_like(x)
    pool.max_backward(np.ones_like(y), indices, dx, windows)
    assert dx.sum() == 2
    pool.average_pool(x, y, windows)
    np.testing.assert_array_equal(y.ravel(), [1, 1, 0])


def test_max_pool_when_a_value_is_nan_then_others_win():
    x = np.array([[[[np.nan, 1.0], [-2.0, np.nan]]]], np.float32)
    y = np.empty((1, 1, 1, 1), np.float32)
    pool.max_pool(x, y, (Window(2), Window(2)))
    assert y.item() == 1


def test_pool_when_threads_differ_then_same_bits():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 7, 131, 127)).astype(np.float32)
    windows = (Window(3, 2, 1), Window(3, 2, 1))
    shape = (2, 7, *pool.pool_shape(x.shape[2:], windows))
    results = []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            top, dx, ave = np.empty(shape, np.float32), np.empty_like(x), np.empty_like(x)
            pool.max_pool(x, top, windows)
            pool.max_backward(top, pool.max_indices(x, shape, windows), dx, windows)
            pool.average_backward(top, ave, windows)
            results.append((top.tobytes(), dx.tobytes(), ave.tobytes()))
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]


def test_stochastic_pick_when_drawn_often_then_each_value_as_often_as_it_is_large():
    x = np.array([[0.0, 1.0], [2.0, 5.0]], np.float32).reshape(1, 1, 2, 2)
    windows = (Window(2), Window(2))
    many = np.broadcast_to(x, (8000, 1, 2, 2))
    chance = np.random.default_rng(0).random((8000, 1, 1, 1), np.float32)
    y = np.empty((8000, 1, 1, 1), np.float32)
    indices = pool.stochastic_pick(many, chance, y, windows)
    np.testing.assert_array_equal(y.ravel(), x.ravel()[indices.ravel()])
    for value, share in ((1, 1 / 8), (2, 2 / 8), (5, 5 / 8)):
        assert abs((y == value).mean() - share) < 0.02
    assert (y > 0).all()


def test_stochastic_average_when_in_test_phase_then_expectation_and_its_gradient():
    windows = (Window(3, 2), Window(2, 2))
    x = np.random.default_rng(2).random((2, 3, 6, 7)) + 0.1
    shape = (2, 3, *pool.pool_shape(x.shape[2:], windows))
    y, dx = np.empty(shape), np.empty_like(x)
    pool.stochastic_average(x, y, windows)
    part = x[1, 2, 4:6, 6:7]  # the last window is clipped
    assert y[1, 2, -1, -1] == pytest.approx((part**2).sum() / part.sum())
    dy = np.random.default_rng(3).standard_normal(shape)
    pool.stochastic_average_backward(x, y, dy, dx, windows)
    for place in ((0, 0, 0, 0), (1, 2, 4, 3), (0, 1, 2, 6)):
        values = []
        for step in (1e-5, -1e-5):
            moved, out = x.copy(), np.empty(shape)
            moved[place] += step
            pool.stochastic_average(moved, out, windows)
            values.append((out * dy).sum())
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(dx[place], abs=1e-6)


# height, width, kernel, stride, pad: rows below, at and above the lanes, wider windows than their strides
WIDE = [((9, 16), (3, 3), 2, 0), ((7, 35), (3, 3), 2, 1), ((8, 70), (2, 2), 2, 0), ((5, 33), (3, 2), 1, 1),
        ((6, 50), (3, 5), 3, 2), ((12, 65), (12, 65), 1, 0), ((4, 31), (2, 3), 2, 1)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_pool_when_rows_are_wide_then_equals_loops(case, dtype):
    size, kernel, stride, pad = case
    windows = [Window(k, stride, pad) for k in kernel]
    out = pool.pool_shape(size, windows)
    x = np.random.default_rng(2).standard_normal((2, 3, *size)).astype(dtype)
    x[1, 2, 2, 5] = np.nan
    y = np.full((2, 3, *out), 7, dtype)
    pool.max_pool(x, y, windows)
    plain = kernel, (stride,) * 2, (pad,) * 2
    np.testing.assert_array_equal(y, naive.pool(x, *plain, out, "MAX")[0])
    pool.average_pool(x, y, windows)
    np.testing.assert_allclose(y, naive.pool(x, *plain, out, "AVE")[0], atol=1e-5)
