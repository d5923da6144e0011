import numpy as np
import pytest

from atrouscaffe.ops.finish import PLAIN, RELU, Finish, finish_blob

X, BASE = np.random.default_rng(1).standard_normal((2, 2, 3, 37)).astype(np.float32)
SCALE, SHIFT = np.array([0.5, -2, 3], np.float32), np.array([1, 0, -1], np.float32)


@pytest.mark.parametrize("finish", [PLAIN, RELU, Finish(slope=0.0, cap=1.0), Finish(base=BASE), Finish(
    slope=np.array([0.1, 2, 0], np.float32), cap=2.0, base=BASE)], ids=["plain", "relu", "cap", "base", "all"])
@pytest.mark.parametrize("scaled", [False, True])
def test_finish_blob_when_compared_with_float64_then_equal(finish, scaled):
    want = X.astype(np.float64) + (0 if finish.base is None else BASE)
    if scaled:
        want = want * SCALE[:, None] + SHIFT[:, None]
    slope = np.broadcast_to(1.0 if finish.slope is None else finish.slope, 3)
    want = np.minimum(np.where(want < 0, want * slope[:, None], want), finish.cap)
    y = X.copy()
    finish_blob(y, y, finish, *((SCALE, SHIFT) if scaled else ()))
    np.testing.assert_allclose(y, want, atol=1e-6)


def test_finish_blob_when_values_are_nan_then_they_stay():
    x = X.copy()
    x[0, 1, [3, 36]] = np.nan  # in a vector, and after the last one
    finish_blob(x, x, Finish(slope=0.0, cap=6.0))
    assert np.isnan(x[0, 1, [3, 36]]).all() and np.isnan(x).sum() == 2
