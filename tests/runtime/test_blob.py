"""Blobs: views that stay valid, growth, sharing, legacy sizes."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import ShapeError
from atrouscaffe.runtime.blob import Blob


def test_data_and_diff_are_writable_and_start_at_zero():
    blob = Blob((2, 3, 5, 7))
    assert blob.data.shape == blob.diff.shape == (2, 3, 5, 7)
    assert blob.data.dtype == np.float32
    assert not blob.data.any() and not blob.diff.any()
    blob.data[1, 2, 3, 4] = 5
    assert blob.data.sum() == 5
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 5, 7, 210)


def test_reshape_keeps_values_and_memory_where_they_fit():
    blob = Blob((4, 6))
    blob.data[...] = np.arange(24).reshape(4, 6)
    view = blob.data
    blob.reshape(3, 8)
    assert np.shares_memory(view, blob.data)
    np.testing.assert_array_equal(blob.data.ravel(), np.arange(24))
    blob.reshape(2, 24)
    np.testing.assert_array_equal(blob.data.ravel()[:24], np.arange(24))
    assert not blob.data.ravel()[24:].any()
    view[0, 0] = 9  # still a valid array after its blob moved on


def test_share_data_makes_one_memory_of_two():
    owner, other = Blob((2, 6)), Blob((3, 4))
    other.share_data(owner)
    owner.data[...] = 7
    assert (other.data == 7).all()
    with pytest.raises(ShapeError, match="12"):
        Blob((5,)).share_data(owner)


@pytest.mark.parametrize("shape", [(-1, 3), (2**16, 2**16), (2**40,)])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match="blob shape"):
        Blob(shape)


def test_scalars_have_one_element_and_legacy_sizes_of_one():
    blob = Blob(())
    blob.data[...] = 2
    assert blob.count == 1 and blob.num == blob.width == 1
    with pytest.raises(ShapeError, match="at most 4"):
        _ = Blob((1, 2, 3, 4, 5)).num


def made_of(blob):
    return lambda: float(blob.array.sum())


def test_derived_values_when_nothing_changes_then_they_are_made_once():
    blob, calls = Blob((2, 3), parameter=True), []
    for _ in range(3):
        blob.derived("k", lambda: calls.append(1))
    assert calls == [1]


@pytest.mark.parametrize("how", ["held before", "held after", "backend", "reshaped"])
def test_derived_values_when_the_values_change_then_they_are_made_anew(how):
    blob = Blob((2, 3), parameter=True)
    held = blob.data if how == "held before" else None
    assert blob.derived("sum", made_of(blob)) == 0
    if how == "held before":
        held[1, 2] = 5
    elif how == "held after":
        blob.data[1, 2] = 5
    elif how == "backend":
        blob.array[1, 2] = 5
        blob.backend.parameters_changed()
    else:
        blob.array[1, 2] = 5
        blob.reshape(3, 2)
    assert blob.derived("sum", made_of(blob)) == 5


def test_derived_values_when_two_values_change_places_then_they_are_made_anew():
    blob = Blob((2, 3), parameter=True)
    blob.data[...] = [[1, 2, 3], [4, 5, 6]]
    first = blob.derived("copy", blob.array.copy)
    blob.data[0, 0], blob.data[1, 1] = 5, 1
    assert (blob.derived("copy", blob.array.copy) != first).any()
