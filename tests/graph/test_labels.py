"""Label maps that would be mixed are refused with the sizes to use."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TRAIN, Net
from atrouscaffe.errors import ShapeError
from tests.conftest import ORACLE


def text(height: int, width: int, interp: str, reader: str = "SoftmaxWithLoss", scores: tuple = (5, 6)) -> str:
    return f"""input: "x" input_shape {{ dim: 1 dim: 4 dim: {scores[0]} dim: {scores[1]} }}
    input: "label" input_shape {{ dim: 1 dim: 1 dim: {height} dim: {width} }}
    layer {{ name: "shrink" type: "Interp" bottom: "label" top: "small" interp_param {{ {interp} }} }}
    layer {{ name: "l" type: "{reader}" bottom: "x" bottom: "small" top: "l" }}"""


@pytest.mark.parametrize(("height", "width", "interp"), [
    (33, 41, "shrink_factor: 8"), (34, 42, "shrink_factor: 8 pad_beg: -1"), (5, 6, "height: 5 width: 6"),
    (9, 11, "height: 5 width: 6")])
@pytest.mark.parametrize("reader", ["SoftmaxWithLoss", "SegAccuracy"])
def test_whole_pixels_are_accepted_and_stay_labels(height, width, interp, reader):
    net = Net(text(height, width, interp, reader), TRAIN)
    net.blobs["label"].data[...] = np.random.default_rng(0).integers(0, 4, (1, 1, height, width))
    net.forward()
    assert (net.blobs["small"].data % 1 == 0).all()


@pytest.mark.parametrize(("height", "width", "interp", "match"), [
    (34, 41, "shrink_factor: 8", r"34 pixels high.*expected 33 or 41 \(crop_size"),
    (33, 48, "shrink_factor: 8", r"48 pixels wide.*expected 41 or 49"),
    (33, 41, "shrink_factor: 8 pad_end: -1", r"33 pixels high.*expected 26 or 34"),
    (40, 41, "height: 5 width: 6", "40 pixels high.*whole number"),
])
def test_mixed_labels_are_refused_with_the_sizes_to_use(height, width, interp, match):
    shrunk = (5, 6) if "height" in interp or "pad" not in interp else (4, 5)
    with pytest.raises(ShapeError, match=f"layer 'shrink'.*{match}"):
        Net(text(height, width, interp, scores=shrunk), TRAIN)


def test_scores_may_be_resized_as_they_like():
    swapped = text(34, 41, "shrink_factor: 8").replace('bottom: "x" bottom: "small"', 'bottom: "small" bottom: "x"')
    swapped = swapped.replace("dim: 1 dim: 4 dim: 5", "dim: 1 dim: 1 dim: 5")
    assert Net(swapped, TRAIN).blobs["small"].shape == (1, 1, 5, 6)


def test_a_reshaped_net_is_checked_again():
    net = Net(text(33, 41, "shrink_factor: 8"), TRAIN)
    net.blobs["label"].reshape(1, 1, 35, 41)
    with pytest.raises(ShapeError, match="expected 33 or 41"):
        net.forward()


def test_what_the_original_makes_of_such_labels_is_on_record():
    with np.load(ORACLE / "cases/v1_interp_label_shrink_unaligned/arrays.npz") as arrays:
        shrunk = next(arrays[key] for key in arrays.files if key.startswith("out:"))
    assert (shrunk % 1 != 0).any()
