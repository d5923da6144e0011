import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.ops.interp import resize, resize_adjoint, source_positions
from atrouscaffe.runtime.threads import set_num_threads
from tests import naive


@settings(max_examples=80, deadline=None)
@given(st.tuples(st.integers(3, 9), st.integers(3, 9)), st.tuples(st.integers(1, 19), st.integers(1, 19)),
       st.tuples(st.integers(0, 1), st.integers(0, 1)))
def test_resize_when_sizes_are_arbitrary_then_equals_loops_and_has_its_adjoint(size, out, crop):
    x = np.random.default_rng(1).standard_normal((2, 3, *size))
    y = np.full((2, 3, *out), np.nan)
    resize(x, y, crop)
    np.testing.assert_allclose(y, naive.interp(x, out, crop), atol=1e-5)  # coordinates are float32
    dy = np.random.default_rng(2).standard_normal(y.shape)
    dx = np.full_like(x, np.nan)
    resize_adjoint(dy, dx, crop)
    assert abs((y * dy).sum() - (x * dx).sum()) < 1e-10


@pytest.mark.parametrize(("size", "out"), [(41, 321), (65, 513), (321, 41), (513, 65), (67, 529), (33, 33)])
def test_resize_when_pixels_fall_on_pixels_then_labels_survive_exactly(size, out):
    x = np.random.default_rng(0).integers(0, 256, (1, 1, size, size)).astype(np.float32)
    y = np.empty((1, 1, out, out), np.float32)
    resize(x, y)
    step, part = (1, (out - 1) // (size - 1)) if out > size else ((size - 1) // (out - 1), 1)
    np.testing.assert_array_equal(y[..., ::part, ::part], x[..., ::step, ::step])


def test_source_positions_when_last_pixel_then_inside():
    for size in range(1, 60):
        for out in range(1, 60):
            index, step, weight = source_positions(size, out)
            assert index.min() >= 0
            assert (index + step).max() < size
            assert weight.min() >= 0
            assert weight.max() < 1.001


def test_resize_when_threads_differ_then_same_bits():
    x = np.random.default_rng(5).standard_normal((2, 7, 37, 41)).astype(np.float32)
    results = []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            y, dx = np.empty((2, 7, 289, 321), np.float32), np.empty_like(x)
            resize(x, y)
            resize_adjoint(y, dx)
            results.append((y.tobytes(), dx.tobytes()))
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]
