"""Output sizes against sliding a real window."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.errors import ShapeError
from atrouscaffe.geometry import Window, interp_size


@settings(deadline=None, derandomize=True)
@given(n=st.integers(1, 40), kernel=st.integers(1, 5), stride=st.integers(1, 4), pad=st.integers(0, 6),
       hole=st.integers(1, 5))
def test_conv_size_counts_the_places_of_a_window(n, kernel, stride, pad, hole):
    places = [begin for begin in range(-pad, n + pad, stride) if begin + (kernel - 1) * hole + 1 <= n + pad]
    window = Window(kernel, stride, pad, hole)
    if places:
        assert window.conv_size(n) == len(places)
        if kernel > 2 * pad:
            assert n - stride < window.deconv_size(len(places)) <= n
    else:
        with pytest.raises(ShapeError, match="does not fit"):
            window.conv_size(n)


@settings(deadline=None, derandomize=True)
@given(n=st.integers(1, 40), kernel=st.integers(1, 5), stride=st.integers(1, 6), pad=st.integers(0, 4))
def test_pool_size_covers_all_pixels_and_never_begins_in_the_padding(n, kernel, stride, pad):
    if pad >= kernel or n + 2 * pad < kernel or stride > kernel:
        return
    size = Window(kernel, stride, pad).pool_size(n)
    last = (size - 1) * stride - pad
    assert last < n
    assert last + kernel >= n


@pytest.mark.parametrize("n, sizes", [(306, (154, 78, 40, 39)), (514, (258, 130, 66, 67))])
def test_deeplab_sizes_of_the_train_and_test_nets(n, sizes):
    pool = Window(2, 2, 1)
    for size in sizes[:3]:
        n = pool.pool_size(n)
        assert n == size
    assert Window(2, 1, 0 if sizes[3] == 39 else 1).pool_size(n) == sizes[3]


@pytest.mark.parametrize("n, options, size", [
    (65, {"zoom": 8}, 513), (321, {"shrink": 8}, 41), (306, {"shrink": 8, "pad_beg": -1}, 39), (7, {"size": 3}, 3),
    (33, {"shrink": 2, "zoom": 3}, 49)])
def test_interp_sizes(n, options, size):
    assert interp_size(n, **options) == size


def test_interp_that_crops_everything_is_refused():
    with pytest.raises(ShapeError, match="leaves nothing"):
        interp_size(5, pad_beg=-3, pad_end=-2)


@pytest.mark.parametrize("n, kernel, stride, pad, size", [
    (2, 3, 2, 0, 1), (1, 5, 5, 0, 1), (1, 5, 4, 1, 1), (4, 3, 2, 0, 2)])
def test_pooling_rounds_up_to_a_window_that_ends_with_the_image(n, kernel, stride, pad, size):
    assert Window(kernel, stride, pad).pool_size(n) == size


@pytest.mark.parametrize("n, kernel, stride, pad, floor", [
    (2, 3, 1, 0, False), (2, 5, 3, 0, False), (2, 3, 2, 0, True), (0, 3, 2, 1, False), (0, 1, 2, 0, False)])
def test_pooling_without_any_window_is_refused(n, kernel, stride, pad, floor):
    with pytest.raises(ShapeError, match="does not fit"):
        Window(kernel, stride, pad).pool_size(n, floor)
