"""Label maps: the index, whatever the file's colours say."""

import cv2
import numpy as np
import pytest
from PIL import Image

from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import (
    color_map,
    colorize,
    encode_labels,
    explain_values,
    labels_from_colors,
    read_labels,
)
from atrouscaffe.errors import ArgumentError, DataError


def labels(classes=21):
    rng = np.random.default_rng(3)
    values = rng.integers(0, classes, (11, 13)).astype(np.uint8)
    values[4, 5:8] = 255
    return values


def test_color_map_has_vocs_known_entries():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0), 12: (64, 0, 128),
             15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {i: tuple(int(v) for v in color_map()[i]) for i in known} == known
    assert len({tuple(c) for c in color_map().tolist()}) == 256


def test_written_labels_come_back_by_index_and_show_vocs_colours(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode_labels(labels()))
    assert np.array_equal(read_labels(path), labels())
    assert np.array_equal(np.asarray(Image.open(path)), labels())
    assert np.array_equal(read_image(path), colorize(labels()))
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], color_map()[labels()])


def test_gray_png_and_gray_saved_as_rgb_are_indices(tmp_path):
    cv2.imwrite(str(tmp_path / "gray.png"), labels())
    cv2.imwrite(str(tmp_path / "three.png"), np.dstack([labels()] * 3))
    assert np.array_equal(read_labels(tmp_path / "gray.png"), labels())
    assert np.array_equal(read_labels(tmp_path / "three.png"), labels())


def test_16_bit_png_is_read_when_its_values_fit(tmp_path):
    cv2.imwrite(str(tmp_path / "fits.png"), labels().astype(np.uint16))
    cv2.imwrite(str(tmp_path / "large.png"), labels().astype(np.uint16) * 300)
    assert np.array_equal(read_labels(tmp_path / "fits.png"), labels())
    with pytest.raises(DataError, match="expected indices"):
        read_labels(tmp_path / "large.png")


def test_rgb_in_voc_colours_is_explained_and_turned_back_on_request(tmp_path):
    path = tmp_path / "rgb.png"
    cv2.imwrite(str(path), colorize(labels()))
    with pytest.raises(DataError, match="VOC's colours"):
        read_labels(path)
    assert np.array_equal(read_labels(path, colors=True), labels())


def test_rgb_in_other_colours_is_refused_with_a_count(tmp_path):
    picture = colorize(labels())
    picture[0, :5] = (1, 2, 3)
    cv2.imwrite(str(tmp_path / "rgb.png"), picture)
    with pytest.raises(DataError, match="5 of 143 pixels"):
        read_labels(tmp_path / "rgb.png", colors=True)
    assert labels_from_colors(picture[..., ::-1])[1] == 5


def test_lost_palette_is_recognised_by_its_grey_values(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode_labels(labels()))
    gray = read_image(path, gray=True)
    assert {38, 147, 220} <= set(np.unique(gray).tolist())  # aeroplane, person, void, as published reports name them
    assert "palette was lost" in explain_values(gray)
    assert explain_values(labels()) == ""
    assert "99" in explain_values(np.array([[0, 99]]))
    assert "palette" not in explain_values(np.array([[0, 99]]))


def test_damaged_and_huge_label_maps_are_errors(tmp_path):
    from .test_image import bomb

    data = encode_labels(labels())
    for end in range(len(data)):
        (tmp_path / "cut.png").write_bytes(data[:end])
        with pytest.raises(DataError):
            read_labels(tmp_path / "cut.png")
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(DataError, match="60000x60000"):
        read_labels(tmp_path / "bomb.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="a text file"):
        read_labels(tmp_path / "text.png")


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3)), np.full((2, 3), 256),
                                 np.full((2, 3), -1), np.zeros((0, 3), np.uint8)])
def test_arrays_that_are_no_label_maps_are_refused(bad):
    with pytest.raises(ArgumentError, match="labels"):
        encode_labels(bad)
