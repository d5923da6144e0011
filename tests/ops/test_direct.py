import numpy as np
import pytest

from atrouscaffe.geometry import Window
from atrouscaffe.ops import direct
from atrouscaffe.ops.conv import conv_forward
from atrouscaffe.ops.finish import PLAIN, Finish
from atrouscaffe.runtime.threads import set_num_threads
from tests import naive

# N, C, M, height, width, kernel, stride, pad, hole, group: rows below, at and above the lanes; blocks that are not full
CASES = [(1, 3, 16, 21, 41, (3, 3), 2, (1, 1), 1, 1), (2, 2, 5, 20, 40, (7, 7), 2, (0, 0), 1, 1),
         (1, 6, 6, 9, 11, (3, 3), 1, (1, 1), 1, 6), (2, 3, 3, 19, 65, (3, 3), 1, (4, 4), 4, 3),
         (1, 3, 3, 35, 67, (5, 5), 2, (1, 1), 1, 3), (1, 5, 19, 9, 130, (1, 1), 1, (0, 0), 1, 1),
         (1, 5, 7, 4, 3, (1, 1), 1, (0, 0), 1, 1), (1, 4, 12, 20, 30, (5, 1), 1, (2, 0), 1, 1),
         (1, 4, 12, 20, 30, (1, 5), 1, (0, 2), 1, 1), (1, 3, 12, 27, 29, (3, 3), 1, (8, 8), 8, 1),
         (1, 8, 16, 30, 32, (3, 3), 3, (1, 1), 1, 4), (2, 20, 30, 11, 15, (1, 1), 1, (0, 0), 1, 2)]


def problem(case):
    n, c, m, height, width, kernel, stride, pads, hole, group = case
    rng = np.random.default_rng(7)
    windows = tuple(Window(k, stride, pad, hole) for k, pad in zip(kernel, pads))
    x = rng.standard_normal((n, c, height, width)).astype(np.float32)
    weight = rng.standard_normal((m, c // group, *kernel)).astype(np.float32)
    bias = rng.standard_normal(m).astype(np.float32)
    y = np.full((n, m, *(w.conv_size(s) for w, s in zip(windows, (height, width)))), np.nan, np.float32)
    return x, weight, bias, y, windows, group, naive.conv(x, weight, bias, kernel, (stride,) * 2, pads, (hole,) * 2,
                                                          group)


@pytest.mark.parametrize("finish", ["plain", "relu6 and base", "slopes"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_direct_when_compared_with_loops_then_equal(case, finish):
    x, weight, bias, y, windows, group, want = problem(case)
    if finish == "plain":
        how = PLAIN
    elif finish == "slopes":
        how = Finish(slope=np.linspace(0, 2, y.shape[1], dtype=np.float32))
        want = np.where(want < 0, want * how.slope[:, None, None], want)
    else:
        how = Finish(slope=0.0, cap=6.0, base=np.random.default_rng(8).standard_normal(y.shape).astype(np.float32))
        want = np.clip(want + how.base, 0, 6)
    direct.forward(x, weight, bias, y, windows, group, how)
    np.testing.assert_allclose(y, want, atol=1e-5 * np.abs(want).max())


def test_direct_when_threads_change_then_the_same_bits():
    rng, windows, group, bias = np.random.default_rng(9), (Window(3, 2, 1), Window(3, 2, 1)), 1, None
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 8, 129, 130), (20, 8, 3, 3)))
    y, one = np.empty((2, 2, 20, 65, 65), np.float32)
    try:
        set_num_threads(1)
        conv_forward(x, weight, bias, one, windows, group, engine="direct")
        set_num_threads(3)
        conv_forward(x, weight, bias, y, windows, group, engine="direct")
    finally:
        set_num_threads(None)
    np.testing.assert_array_equal(y, one)


@pytest.mark.parametrize("slope", [0.0, 0.3], ids=["relu", "leaky"])
def test_direct_when_a_pixel_is_nan_then_what_reads_it_is_nan(slope):
    x, weight, bias, y, windows, group, _ = problem(CASES[0])
    x[0, 1, 10, 12] = np.nan
    direct.forward(x, weight, bias, y, windows, group, Finish(slope=slope, cap=6.0))
    want = np.zeros(y.shape[2:], bool)
    want[[[5]], [[6]]] = True  # row 10 lies under tap 1 of output 5, column 12 under tap 1 of output 6
    assert (np.isnan(y[0]) == want).all()


def test_direct_when_weights_are_huge_then_infinities_stay():
    x, weight, bias, y, windows, group, _ = problem(CASES[5])
    x[...], weight[...] = 1e30, 1e30
    direct.forward(x, weight, bias, y, windows, group, PLAIN)
    assert np.isposinf(y).all()
