import functools
import tracemalloc

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.geometry import Window
from atrouscaffe.ops.conv import conv_bias_gradient, conv_forward, conv_transpose, conv_weight_gradient
from atrouscaffe.runtime.threads import serial_blas, set_num_threads
from tests import naive

# (N, C, M, spatial, kernel, stride, pad, hole, group)
CASES = {
    "plain": (2, 3, 5, (7, 9), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "hole": (1, 3, 2, (11, 13), (3, 2), (1, 1), (2, 3), (2, 5), 1),
    "stride": (2, 2, 3, (10, 11), (3, 3), (2, 3), (1, 0), (1, 2), 1),
    "asymmetric": (1, 2, 3, (9, 7), (5, 2), (2, 1), (0, 1), (1, 1), 1),
    "pad above kernel": (1, 2, 3, (3, 4), (2, 2), (1, 1), (3, 2), (1, 1), 1),
    "pointwise": (2, 5, 3, (6, 7), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "pointwise group": (2, 10, 15, (5, 3), (1, 1), (1, 1), (0, 0), (1, 1), 5),
    "pointwise pad": (1, 2, 3, (4, 5), (1, 1), (1, 1), (1, 1), (1, 1), 1),
    "pointwise stride": (1, 2, 3, (7, 5), (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "group": (2, 10, 12, (7, 5), (3, 3), (1, 2), (1, 1), (2, 1), 2),
    "depthwise": (2, 5, 5, (7, 8), (3, 3), (1, 1), (2, 2), (2, 2), 5),
    "depthwise stride": (1, 3, 6, (9, 8), (3, 2), (2, 2), (1, 1), (1, 1), 3),
    "small groups": (2, 6, 9, (5, 6), (2, 3), (1, 1), (1, 1), (1, 1), 3),
    "whole image": (3, 4, 5, (5, 6), (5, 6), (1, 1), (0, 0), (1, 1), 1),
    "line": (2, 3, 4, (11,), (3,), (2,), (2,), (2,), 1),
    "volume": (2, 4, 6, (5, 4, 6), (3, 2, 3), (2, 1, 2), (1, 0, 2), (1, 2, 1), 2),
}


def make(case, dtype=np.float32):
    n, c, m, spatial, kernel, stride, pad, hole, group = case
    rng = np.random.default_rng(7)
    windows = [Window(*w) for w in zip(kernel, stride, pad, hole)]
    out = [w.conv_size(s) for w, s in zip(windows, spatial)]
    x = rng.standard_normal((n, c, *spatial)).astype(dtype)
    weight = rng.standard_normal((m, c // group, *kernel)).astype(dtype)
    bias = rng.standard_normal(m).astype(dtype)
    dy = rng.standard_normal((n, m, *out)).astype(dtype)
    return x, weight, bias, dy, windows


def near(got, want, tolerance):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1.0, np.abs(want).max()))


@functools.cache
def reference(name):
    kernel, stride, pad, hole, group = CASES[name][4:]
    x, weight, bias, dy, _ = make(CASES[name])
    return (naive.conv(x, weight, bias, kernel, stride, pad, hole, group),
            *naive.conv_gradients(x, weight, dy, kernel, stride, pad, hole, group))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("name", CASES)
def test_convolution_when_compared_with_loops_then_equal(name, dtype, tolerance):
    x, weight, bias, dy, windows = (a.astype(dtype) if isinstance(a, np.ndarray) else a for a in make(CASES[name]))
    group = CASES[name][-1]
    want_y, want_dx, want_dw, want_db = reference(name)
    y, dx, dw, db = np.full_like(dy, np.nan), np.full_like(x, np.nan), np.ones_like(weight), np.ones_like(bias)
    with serial_blas():
        conv_forward(x, weight, bias, y, windows, group)
        conv_transpose(dy, weight, None, dx, windows, group)
        conv_weight_gradient(x, dy, dw, windows, group)
    conv_bias_gradient(dy, db)
    near(y, want_y, tolerance)
    near(dx, want_dx, tolerance)
    near(dw - 1, want_dw, 3 * tolerance)
    near(db - 1, want_db, 3 * tolerance)


@pytest.mark.parametrize("name", ["plain", "depthwise", "volume", "line", "whole image", "pointwise"])
def test_transpose_when_given_a_bias_then_each_channel_is_shifted(name):
    x, weight, _, dy, windows = make(CASES[name])
    bias = np.arange(1, x.shape[1] + 1, dtype=np.float32)
    without, shifted = np.empty_like(x), np.empty_like(x)
    conv_transpose(dy, weight, None, without, windows, CASES[name][-1])
    conv_transpose(dy, weight, bias, shifted, windows, CASES[name][-1])
    near(shifted - without, np.broadcast_to(bias.reshape(-1, *(1 for _ in windows)), x.shape), 1e-5)


BIG = {
    "columns": (1, 24, 32, (61, 53), (3, 3), (1, 1), (2, 2), (2, 2), 1),
    "batch": (5, 17, 19, (23, 29), (3, 3), (2, 1), (1, 1), (1, 1), 1),
    "groups": (2, 24, 36, (31, 27), (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "pointwise": (1, 48, 40, (37, 41), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "few pixels": (1, 96, 100, (6, 5), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "depthwise": (2, 32, 32, (57, 61), (3, 3), (1, 1), (4, 4), (4, 4), 32),
    "volume": (3, 6, 7, (9, 11, 13), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
}


@pytest.mark.parametrize("name", BIG)
def test_convolution_when_threads_differ_then_same_bits(name):
    x, weight, bias, dy, windows = make(BIG[name])
    group = BIG[name][-1]

    def everything():
        y, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.zeros_like(weight), np.zeros_like(bias)
        conv_forward(x, weight, bias, y, windows, group)
        conv_transpose(dy, weight, None, dx, windows, group)
        conv_weight_gradient(x, dy, dw, windows, group)
        conv_bias_gradient(dy, db)
        return y, dx, dw, db

    results = []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            with serial_blas():
                results.append(everything())
    finally:
        set_num_threads(None)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ["columns", "few pixels", "pointwise"])
def test_convolution_when_cut_into_tiles_then_equals_scipy(name):
    _, c, m, _, kernel, _, pad, hole, group = BIG[name]
    x, weight, bias, dy, windows = make(BIG[name])
    y = np.empty_like(dy)
    conv_forward(x, weight, bias, y, windows, group)
    spread = np.zeros((m, c, *((k - 1) * h + 1 for k, h in zip(kernel, hole))))
    spread[:, :, :: hole[0], :: hole[1]] = weight
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    for i in (0, m - 1):
        want = scipy.signal.correlate(wide[0], spread[i], mode="valid")[0] + bias[i]
        near(y[0, i], want, 5e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_convolution_when_geometry_is_arbitrary_then_transpose_is_its_adjoint(data):
    group = data.draw(st.sampled_from([1, 1, 2, 3]))
    c, m = group * data.draw(st.integers(1, 6)), group * data.draw(st.integers(1, 6))
    windows, spatial = [], []
    for _ in range(2):
        window = Window(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)), data.draw(st.integers(0, 4)),
                        data.draw(st.integers(1, 4)))
        windows.append(window)
        spatial.append(data.draw(st.integers(max(1, window.extent - 2 * window.pad), 14)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.standard_normal((2, c, *spatial))
    weight = rng.standard_normal((m, c // group, *(w.kernel for w in windows)))
    dy = rng.standard_normal((2, m, *(w.conv_size(n) for w, n in zip(windows, spatial))))
    y, dx, dw = np.empty_like(dy), np.empty_like(x), np.zeros_like(weight)
    conv_forward(x, weight, None, y, windows, group)
    conv_transpose(dy, weight, None, dx, windows, group)
    conv_weight_gradient(x, dy, dw, windows, group)
    scale = max(1.0, np.abs(y).sum())
    assert abs((y * dy).sum() - (x * dx).sum()) < 1e-12 * scale  # <conv x, dy> = <x, conv* dy>
    assert abs((y * dy).sum() - (weight * dw).sum()) < 1e-12 * scale  # and linear in the weight


@pytest.mark.parametrize("direction", ["forward", "transpose", "weight"])
def test_convolution_when_the_image_is_large_then_columns_stay_small(direction):
    window = Window(3, 1, 1)
    x, y = np.ones((1, 32, 300, 300), np.float32), np.ones((1, 16, 300, 300), np.float32)
    weight = np.ones((16, 32, 3, 3), np.float32)
    columns_mb = 32 * 9 * 300 * 300 * 4 / 2**20  # 99
    work = {"forward": lambda: conv_forward(x, weight, None, y, (window, window)),
            "transpose": lambda: conv_transpose(y, weight, None, x, (window, window)),
            "weight": lambda: conv_weight_gradient(x, y, weight, (window, window))}[direction]
    tracemalloc.start()
    try:
        with serial_blas():
            work()
        peak_mb = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mb < columns_mb / 4
