"""Labels in float blobs: what passes, what is refused, and what the refusal says."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.data.palette import color_map
from atrouscaffe.errors import DataError
from atrouscaffe.ops.labels import LUMINANCE, image_labels, read_labels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_numbers_in_range_pass_and_ignored_ones_become_minus_one(dtype):
    array = np.array([[0, 20, 255], [-1, 3, 7]], dtype)
    labels = read_labels(array, 21, {255, -1, 3})
    assert labels.dtype == np.int32 and labels.tolist() == [[0, 20, -1], [-1, -1, 7]]
    assert array[0, 2] == 255


@pytest.mark.parametrize(("value", "told"), [
    (21, "got 21"), (-1, "got -1"), (0.5, "got 0.5.*8k.1"), (np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"),
    (3e9, "3e.09"), (255, "ignore_label 255"), (147, "grey value.*palette PNGs must be read by index")])
def test_others_are_refused_with_value_place_and_hint(value, told):
    array = np.zeros((3, 1, 5, 7), np.float32)
    array[2, 0, 4, 6] = value
    with pytest.raises(DataError, match="0 to 20, got.* at image 2, row 4, column 6"):
        read_labels(array, 21)
    with pytest.raises(DataError, match=told):
        read_labels(array, 21)


def test_message_names_ignored_labels_and_places_of_other_shapes():
    with pytest.raises(DataError, match=r"0 to 4 or the ignored 254, 255, got 9 at index \(1, 2\)"):
        read_labels(np.array([[0, 1, 2], [3, 4, 9.0]]), 5, {255, 254})
    with pytest.raises(DataError, match="at its only place"):
        read_labels(np.array(9.0), 5)


def test_grey_values_are_those_of_vocs_palette():
    colours = np.asarray(color_map())[[*range(1, 21), 255]].astype(float)
    grey = colours @ [0.299, 0.587, 0.114]
    assert {round(value) for value in grey} | {int(value) for value in grey} == set(LUMINANCE)


def test_image_labels_drop_fillers():
    listed = np.array([[0, 2, -1], [-1, -1, -1], [3, -1, 3]], np.float32)[:, :, None, None]
    assert image_labels(listed, 4) == [[0, 2], [], [3, 3]]
    assert image_labels(listed, 4, {2}) == [[0], [], [3, 3]]
    with pytest.raises(DataError, match="label list.*0 to 2.*got 3"):
        image_labels(listed, 3)
