"""DenseImageData and ImageLabelmapData: pictures and maps cut alike, against OpenCV and NumPy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.data.palette import encode_labels
from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.formats.mean import write_mean

SIZE = (16, 24)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four pictures with label maps and edge maps; the first channel of a picture tells its place."""
    rng = np.random.default_rng(0)
    for i in range(4):
        image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        image[..., 0] = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 251
        cv2.imwrite(str(tmp_path / f"i{i}.png"), image)
        labels = (image[..., 0] % 11).astype(np.uint8)
        labels[0, 0] = i
        (tmp_path / f"l{i}.png").write_bytes(encode_labels(labels))
        cv2.imwrite(str(tmp_path / f"e{i}.png"), image[..., 0])
    (tmp_path / "pairs.txt").write_text("".join(f"/i{i}.png /l{i}.png\n" for i in range(4)))
    (tmp_path / "edges.txt").write_text("".join(f"/i{i}.png /e{i}.png\n" for i in range(4)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dense(options, transform="", phase=TRAIN, batch=2, **more):
    return Net(f"""layer {{ name: "d" type: "DenseImageData" top: "data" top: "label"
        transform_param {{ {transform} }} dense_image_data_param {{ source: "pairs.txt" root_folder: "."
        batch_size: {batch} {options} }} }}""", phase, **more)


def picture(i):
    return cv2.imread(f"i{i}.png")


def labels_of(i):
    values = picture(i)[..., 0] % 11
    values[0, 0] = i
    return values


def test_images_and_labels_come_as_they_are(folder, device):
    net = dense("", "mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.5", device=device)
    for rows in ((0, 1), (2, 3), (0, 1)):
        out = net.forward()
        assert out["data"].shape == (2, 3, *SIZE) and out["label"].shape == (2, 1, *SIZE)
        for place, i in enumerate(rows):
            wanted = (picture(i).transpose(2, 0, 1) - np.float32([10, 20, 30]).reshape(3, 1, 1)) * 0.5
            np.testing.assert_array_equal(out["data"][place], wanted)
            np.testing.assert_array_equal(out["label"][place, 0], labels_of(i))


@pytest.mark.parametrize("factor", [1, 4])
def test_new_size_resizes_labels_by_the_nearest_pixel_and_the_factor(factor, folder):
    out = dense(f"new_height: 8 new_width: 20 label_divide_factor: {factor}").forward()
    assert out["data"].shape == (2, 3, 8, 20) and out["label"].shape == (2, 1, 8 // factor, 20 // factor)
    np.testing.assert_array_equal(out["data"][1], cv2.resize(picture(1), (20, 8)).transpose(2, 0, 1))
    wanted = cv2.resize(labels_of(1), (20 // factor, 8 // factor), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(out["label"][1, 0], wanted)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_mirror_and_crop_treat_both_alike_in_both_phases(phase, folder):
    net = dense("mirror: true crop_height: 5 crop_width: 7", phase=phase, seed=3)
    seen, mirrored = set(), 0
    for round_ in range(12):
        out = net.forward()
        assert out["data"].shape == (2, 3, 5, 7) and out["label"].shape == (2, 1, 5, 7)
        for place in range(2):
            first = out["data"][place, 0].astype(int)
            i = 2 * (round_ % 2) + place
            flip = int(first[0, 1] - first[0, 0]) % 251 == 250
            mirrored += flip
            first = first[:, ::-1] if flip else first
            whole = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 251
            at = [(y, x) for y in range(12) for x in range(18) if (whole[y:y + 5, x:x + 7] == first).all()]
            assert at
            wanted = labels_of(i)[at[0][0]:at[0][0] + 5, at[0][1]:at[0][1] + 7]
            if at[0] != (0, 0):
                np.testing.assert_array_equal(out["label"][place, 0], wanted[:, ::-1] if flip else wanted)
            seen.add(at[0])
    assert len(seen) > 12 and 4 < mirrored < 20


def test_shuffle_goes_through_all_rows_each_round_and_resumes(folder):
    net = dense("shuffle: true", batch=4, seed=5)
    orders = {tuple(net.forward()["label"][:, 0, 0, 0].astype(int)) for _ in range(6)}
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders) and len(orders) > 1
    state = net.state()
    wanted = net.forward()["label"].copy()
    other = dense("shuffle: true", batch=4, seed=6)
    other.set_state(state)
    np.testing.assert_array_equal(other.forward()["label"], wanted)


def test_mean_picture_and_grey_pictures(folder):
    mean = np.random.default_rng(1).random((1, *SIZE)).astype(np.float32)
    write_mean(folder / "mean.binaryproto", mean)
    out = dense("is_color: false", 'mean_file: "mean.binaryproto"').forward()
    np.testing.assert_allclose(out["data"][1], cv2.imread("i1.png", cv2.IMREAD_GRAYSCALE)[None] - mean)


@pytest.mark.parametrize(("options", "transform", "words"), [
    ("", "crop_size: 4", "dense_image_data_param"), ("", "mirror: true", "dense_image_data_param"),
    ('mean_file: "m"', "", "transform_param"), ("crop_height: 4", "", "crop_width"), ("new_width: 4", "", "new_height"),
    ("label_divide_factor: 2", "", "new_height"), ("label_divide_factor: 0", "", "at least 1"),
    ("new_height: 4 new_width: 4 label_divide_factor: 8", "", "at most"), ("", "scale_factors: 2", "scale_factors"),
    ("label_divide_factor: 2 new_height: 8 new_width: 8 crop_height: 4 crop_width: 4", "", "without a crop")])
def test_options_that_cannot_work_are_refused(options, transform, words, folder):
    with pytest.raises(LayerError, match=words):
        dense(options, transform)


@pytest.mark.parametrize(("line", "options", "words"), [
    ("/i0.png", "", r"pairs.txt:1.*'d'.*one name"), ("/i0.png /small.png", "", "24x16 pixels.*5x5"),
    ("/i0.png /l0.png", "crop_height: 99 crop_width: 3", "smaller than the crop"), ("/i0.png /../x.png", "", "outside"),
    ("/i0.png /none.png", "", "no such file")])
def test_lines_that_cannot_be_read_are_told_with_their_place(line, options, words, folder):
    (folder / "small.png").write_bytes(encode_labels(np.zeros((5, 5), np.uint8)))
    (folder / "pairs.txt").write_text(line + "\n")
    with pytest.raises((DataError, OSError), match=words):
        dense(options, batch=1).forward()


def test_image_data_knows_the_factor_and_leaves_numbers_alone(folder):
    (folder / "list.txt").write_text("i0.png 6\n")
    net = Net('layer { name: "d" type: "ImageData" top: "data" top: "label" image_data_param { source: "list.txt" '
              'label_divide_factor: 4 } }', TRAIN)
    assert net.forward()["label"].tolist() == [6]


def test_example_net_trains_on_pairs(folder, shared_data):
    (folder / "pairs.txt").write_text("".join(f"i{i}.png l{i}.png\n" for i in range(4)))
    net = Net(shared_data.parent / "cases" / "zoo" / "enet_train.prototxt", TRAIN)
    net.forward()
    assert net.blobs["data"].shape == (2, 3, 16, 24) and net.blobs["label"].shape == (2, 1, 4, 6)
    wanted = [cv2.resize(labels_of(i), (6, 4), interpolation=cv2.INTER_NEAREST) for i in range(4)]
    assert any(np.array_equal(net.blobs["label"].data[0, 0], labels) for labels in wanted)


# -- HED's edge maps ----------------------------------------------------------------------------


def edges(options="", transform="", **more):
    return Net(f"""layer {{ name: "d" type: "ImageLabelmapData" top: "data" top: "label"
        transform_param {{ {transform} }} image_data_param {{ source: "edges.txt" root_folder: "." {options} }} }}""",
               TRAIN, **more)


def test_edge_maps_are_0_or_1_from_the_middle_on(folder, device):
    out = edges(transform="mean_value: 104", device=device).forward()
    grey = cv2.imread("e0.png", cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(out["label"][0, 0], grey / 255 > 0.5)
    np.testing.assert_array_equal(out["data"][0], picture(0).transpose(2, 0, 1) - 104.0)


def test_edge_maps_are_resized_linearly_before(folder):
    out = edges("new_height: 9 new_width: 13").forward()
    grey = cv2.resize(cv2.imread("e0.png", cv2.IMREAD_GRAYSCALE), (13, 9))
    np.testing.assert_array_equal(out["label"][0, 0], grey > 127)


def test_edge_maps_follow_the_images_crop_and_mirror(folder):
    net = edges(transform="crop_size: 6 mirror: true", seed=1)
    for _ in range(8):
        out = net.forward()
        np.testing.assert_array_equal(out["label"][0, 0], out["data"][0, 0] >= 128)
