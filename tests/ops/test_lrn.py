import numpy as np
import pytest

from atrouscaffe.ops.lrn import lrn_across, lrn_across_backward
from atrouscaffe.runtime.threads import set_num_threads
from tests import naive

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 2, 9])
@pytest.mark.parametrize("size", [1, 3, 5, 11])
def test_lrn_when_the_window_is_wider_than_the_channels_then_equals_loops(channels, size):
    x = RNG.standard_normal((2, channels, 3, 7))
    y = np.empty((2, channels, 21))
    lrn_across(x.reshape(y.shape), y, size, 0.8, 0.75, 1.5)
    np.testing.assert_allclose(y.reshape(x.shape), naive.lrn_across(x, size, 0.8, 0.75, 1.5), atol=1e-12)


def test_lrn_when_threads_differ_then_same_bits():
    x, dy = RNG.standard_normal((2, 2, 30, 5003)).astype(np.float32)
    results = []
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            y, dx = np.empty_like(x), np.empty_like(x)
            lrn_across(x, y, 5, 1, 0.75, 1)
            lrn_across_backward(x, dy, dx, 5, 1, 0.75, 1)
            results.append((y.tobytes(), dx.tobytes()))
    finally:
        set_num_threads(None)
    assert results[0] == results[1]
