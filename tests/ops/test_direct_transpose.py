import numpy as np
import pytest

from atrouscaffe.geometry import Window
from atrouscaffe.ops import direct_transpose
from atrouscaffe.ops.conv import conv_transpose
from atrouscaffe.ops.finish import PLAIN, Finish
from tests import naive

# N, C, M, height, width, kernel, stride, pad, hole, group
CASES = [(1, 19, 19, 5, 40, (2, 2), 2, 0, 1, 1), (2, 5, 16, 6, 7, (3, 3), 2, 1, 1, 1),
         (1, 3, 4, 4, 33, (3, 3), 2, 0, 1, 1), (2, 3, 3, 5, 9, (4, 4), 2, 1, 1, 3),
         (1, 4, 4, 3, 5, (16, 16), 8, 4, 1, 4), (1, 4, 10, 6, 5, (4, 4), 3, 1, 1, 2),
         (1, 2, 5, 8, 9, (3, 3), 2, 2, 2, 1), (1, 2, 3, 5, 6, (2, 3), 2, 0, 1, 1)]


def problem(case):
    n, c, m, height, width, kernel, stride, pad, hole, group = case
    rng = np.random.default_rng(3)
    windows = tuple(Window(k, stride, pad, hole) for k in kernel)
    dy = rng.standard_normal((n, c, height, width)).astype(np.float32)
    weight = rng.standard_normal((c, m // group, *kernel)).astype(np.float32)
    bias = rng.standard_normal(m).astype(np.float32)
    x = np.full((n, m, *(w.deconv_size(s) for w, s in zip(windows, (height, width)))), np.nan, np.float32)
    want, _, _ = naive.conv_gradients(np.zeros(x.shape), weight, dy, kernel, (stride,) * 2, (pad,) * 2, (hole,) * 2,
                                      group)
    return dy, weight, bias, x, windows, group, want + bias[:, None, None]


@pytest.mark.parametrize("finish", [PLAIN, Finish(slope=0.0, cap=2.0)], ids=["plain", "capped"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_transpose_when_compared_with_loops_then_equal(case, finish):
    dy, weight, bias, x, windows, group, want = problem(case)
    if finish is not PLAIN:
        want = np.clip(want, 0, 2)
    conv_transpose(dy, weight, bias, x, windows, group, finish)
    np.testing.assert_allclose(x, want, atol=2e-6 * np.abs(want).max())


def test_fits_when_a_phase_has_no_tap_then_not():
    dy, weight, _, x, windows, group, _ = problem((1, 2, 3, 4, 5, (2, 2), 3, 0, 1, 1))
    assert not direct_transpose.fits(dy, weight, x, windows, group)
    dy, weight, _, x, windows, group, _ = problem(CASES[6])  # hole 2 at stride 2: taps meet even places only
    assert not direct_transpose.fits(dy, weight, x, windows, group)
    dy, weight, _, x, windows, group, _ = problem(CASES[0])
    assert direct_transpose.fits(dy, weight, x, windows, group)


def test_transpose_when_a_base_is_given_then_it_is_added_before_the_activation():
    dy, weight, bias, x, windows, group, want = problem(CASES[1])
    base = np.random.default_rng(4).standard_normal(x.shape).astype(np.float32)
    conv_transpose(dy, weight, bias, x, windows, group, Finish(slope=0.0, base=base))
    np.testing.assert_allclose(x, np.maximum(want + base, 0), atol=2e-5)
