import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.geometry import Window
from atrouscaffe.ops.im2col import col2im, im2col


def loops(images, windows, out):
    columns = np.zeros((images.shape[0], images.shape[1], *(w.kernel for w in windows), *out), images.dtype)
    for tap in itertools.product(*(range(w.kernel) for w in windows)):
        for place in itertools.product(*map(range, out)):
            at = tuple(o * w.stride + t * w.hole - w.pad for o, t, w in zip(place, tap, windows))
            if all(0 <= a < n for a, n in zip(at, images.shape[2:])):
                columns[(slice(None), slice(None), *tap, *place)] = images[(slice(None), slice(None), *at)]
    return columns.reshape(images.shape[0], -1, *out)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3),
                          st.integers(1, 9)), min_size=1, max_size=3))
def test_im2col_when_geometry_is_arbitrary_then_exact_and_col2im_its_adjoint(axes):
    windows = [Window(*axis[:4]) for axis in axes]
    spatial = [max(axis[4], w.extent - 2 * w.pad, 1) for axis, w in zip(axes, windows)]
    out = [w.conv_size(n) for w, n in zip(windows, spatial)]
    rng = np.random.default_rng(3)
    images = rng.integers(-9, 9, (2, 3, *spatial)).astype(np.float64)
    want = loops(images, windows, out)
    columns = np.full_like(want, np.nan)
    im2col(images, columns, windows)
    np.testing.assert_array_equal(columns, want)
    other = rng.integers(-9, 9, want.shape).astype(np.float64)
    back = np.full_like(images, np.nan)
    col2im(other, back, windows)
    assert (other * want).sum() == (back * images).sum()  # whole numbers: exact


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_col2im_when_columns_are_ones_then_counts_the_readers_of_each_pixel(dtype):
    windows = [Window(3, 1, 1), Window(3, 1, 1)]
    image = np.empty((1, 1, 3, 4), dtype)
    col2im(np.ones((1, 9, 3, 4), dtype), image, windows)
    np.testing.assert_array_equal(image[0, 0], [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]])
