"""WindowData: crops against OpenCV, shares of windows, context worked out by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from atrouscaffe import TRAIN, Net
from atrouscaffe.errors import AtrousCaffeError, DataError, LayerError
from atrouscaffe.formats.mean import write_mean

LIST = """# 0
a.png
3
40
50
2
7 0.9 10 12 21 23
2 0.1 0 0 9 4
# 1
b.png 3 30 20 2
3 0.5 4 4 15 25
5 0.3 1 2 3 4
"""
WARP = "context_pad: 0"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (40, 50)), ("b.png", (30, 20))):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (*size, 3), np.uint8))
    (tmp_path / "windows.txt").write_text(LIST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def windows(options="", transform="crop_size: 16", **more):
    return Net(f"""layer {{ name: "w" type: "WindowData" top: "data" top: "label" transform_param {{ {transform} }}
        window_data_param {{ source: "windows.txt" batch_size: 8 {options} }} }}""", TRAIN, **more)


def crop(name, x1, y1, x2, y2, size=(16, 16)):
    return cv2.resize(cv2.imread(name)[y1:y2 + 1, x1:x2 + 1], size).transpose(2, 0, 1).astype(np.float32)


def test_a_batch_holds_background_then_foreground(folder, device):
    net = windows("fg_fraction: 0.4 fg_threshold: 0.5 bg_threshold: 0.25", device=device, seed=2)
    seen = set()
    inside = {7: crop("a.png", 10, 12, 21, 23), 3: crop("b.png", 4, 4, 15, 25)}
    for _ in range(6):
        out = net.forward()
        labels = out["label"].astype(int).tolist()
        assert labels[:5] == [0] * 5 and set(labels[5:]) <= {3, 7}  # int(8 * 0.4) of the foreground
        seen.update(labels)
        for place, label in enumerate(labels):
            np.testing.assert_array_equal(out["data"][place], inside.get(label, crop("a.png", 0, 0, 9, 4)))
    assert seen == {0, 3, 7}


def test_mean_scale_and_mirror(folder):
    mean = np.random.default_rng(1).random((3, 20, 22)).astype(np.float32)
    write_mean(folder / "mean.binaryproto", mean)
    net = windows("fg_fraction: 1 fg_threshold: 0.8", 'crop_size: 16 mirror: true scale: 0.5 mean_file: '
                  '"mean.binaryproto"', seed=3)
    plain = crop("a.png", 10, 12, 21, 23)
    wanted = [(values - mean[:, 2:18, 3:19]) * 0.5 for values in (plain, plain[:, :, ::-1])]
    found = [next(i for i, values in enumerate(wanted) if np.allclose(row, values, atol=1e-5))
             for row in net.forward()["data"]]
    assert set(found) == {0, 1}


@pytest.mark.parametrize("mirror", [False, True])
def test_context_reaches_beyond_the_image_and_is_0_there(mirror, folder):
    """Window 0..9 x 0..4, 2 pixels of context of 16: expanded by 16/12 about (5, 2.5) to -2..12 x -1..6."""
    values = crop("a.png", 0, 0, 12, 6, (round(13 * 16 / 15), round(7 * 16 / 8)))
    wanted = np.zeros((3, 16, 16), np.float32)
    wanted[:, 2:, 2:] = values - 50
    assert values.shape == (3, 14, 14)
    net = windows("fg_fraction: 0 bg_threshold: 0.2 context_pad: 2",
                  f"crop_size: 16 mean_value: 50 mirror: {str(mirror).lower()}")
    rows = net.forward()["data"]
    mirrored = np.zeros_like(wanted)
    mirrored[:, 2:, :14] = values[:, :, ::-1] - 50
    kinds = {min((0, 1), key=lambda i: np.abs(row - (wanted, mirrored)[i]).max()) for row in rows}
    assert all(min(np.abs(row - wanted).max(), np.abs(row - mirrored).max()) == 0 for row in rows)
    assert kinds == ({0, 1} if mirror else {0})


def test_square_takes_the_smallest_square_around_a_window(folder):
    """Window 4..15 x 4..25: half width 6 becomes 11 about (10, 15), -1..21 x 4..26; the image is 20 wide."""
    net = windows('fg_fraction: 1 fg_threshold: 0.5 crop_mode: "square"', seed=1)
    out = net.forward()
    row = out["data"][out["label"].tolist().index(3)]
    left, right = round(1 * 16 / 23), round(20 * 16 / 23)
    np.testing.assert_array_equal(row[:, :, left:left + right], crop("b.png", 0, 4, 19, 26, (right, 16)))
    assert not row[:, :, :left].any() and not row[:, :, left + right:].any()


def test_state_resumes_with_the_same_windows(folder):
    net = windows(transform="crop_size: 16 mirror: true", seed=4)
    net.forward()
    state, wanted = net.state(), net.forward()["data"].copy()
    other = windows(transform="crop_size: 16 mirror: true", seed=9)
    other.set_state(state)
    np.testing.assert_array_equal(other.forward()["data"], wanted)


@pytest.mark.parametrize(("options", "transform", "words"), [
    ("", "", "crop_size"), ("", "crop_height: 3 crop_width: 4", "crop_size"), ("context_pad: 8", None, "context_pad"),
    ('crop_mode: "oval"', None, "crop_mode"), ("fg_fraction: 1.5", None, "fg_fraction"),
    ("fg_fraction: nan", None, "fg_fraction")])
def test_options_that_cannot_work_are_refused(options, transform, words, folder):
    with pytest.raises(LayerError, match=words):
        windows(options, "crop_size: 16" if transform is None else transform)


@pytest.mark.parametrize(("text", "words"), [
    ("", "no.*images|got none"), ("x", "windows.txt:1.*'#'"), ("# 1", "windows.txt:1.*number, 0"),
    ("# 0\na.png 3 40 50 99999999999", "windows.txt:2.*how many"), ("# 0\na.png 3 40 50 2\n1 0.5 0 0 1 1", "the end"),
    ("# 0\na.png x", "channels"), ("# 0\na.png 3 4 4 1 1 nan 0 0 1 1", "overlap"), ("# 0\na.png 3 40 50 0", "got none"),
    ("# 0\na.png 3 40 50 1\n0 0.9 0 0 1 1", "classes from 1"), ("# 0\na.png 3 40 50 1\n1 0.9 0 0 1 1", "bg_threshold"),
    ("# 0\na.png 3 40 50 1\n1 0.1 0 0 1 1", "fg_threshold"), ("# 0\na.png 3 4 4 1 1 0.1 0 0 1 1e3", "y2"),
    ("# 0\n../a.png 3 40 50 2 1 0.9 0 0 1 1 1 0.1 0 0 1 1", "outside"),
    ("# 0\na.png 3 40 50 2 1 0.9 0 0 60 9 1 0.1 0 0 60 9", "inside of the image's 50x40"),
    ("# 0\na.png 3 40 50 2 1 0.9 9 9 2 2 1 0.1 9 9 2 2", "in order")])
def test_lists_that_cannot_be_used_are_told_with_their_line(text, words, folder):
    (folder / "windows.txt").write_text(text)
    with pytest.raises(AtrousCaffeError, match=words):
        windows("fg_fraction: 0.5").forward()


def test_windows_far_outside_are_refused_in_every_mode(folder):
    (folder / "windows.txt").write_text("# 0\na.png 3 40 50 2 1 0.9 900 900 990 990 1 0.1 -99 -99 -90 -90")
    for mode in ("", "context_pad: 3", 'crop_mode: "square"'):
        with pytest.raises(DataError, match="inside"):
            windows(f"fg_fraction: 0.5 {mode}").forward()
