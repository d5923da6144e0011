"""AnnotatedData: records written by protobuf's own classes, read as images and boxes."""

import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.data.overlay import encode_picture
from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.formats.datum import parse_annotated_datum
from atrouscaffe.formats.schema import message_class

lmdb = pytest.importorskip("lmdb", reason="needs the package lmdb to write a database")
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (3, 8, 10, 3)).astype(np.uint8)
BOXES = [[(1, 0, 0.25, 0.125, 0.5, 0.75, False), (1, 1, 0.5, 0.5, 1, 1, True)], [], [(3, 0, 0, 0, 0.5, 0.5, False)]]


def record(index):
    """One AnnotatedDatum; the second is raw, the others are PNG files."""
    message = message_class("AnnotatedDatum", "ssd")(type=0)
    if index == 1:
        message.datum.channels, message.datum.height, message.datum.width = 3, 8, 10
        message.datum.data = IMAGES[1].transpose(2, 0, 1).tobytes()
    else:
        message.datum.data, message.datum.encoded = encode_picture(IMAGES[index]), True
    for label, instance, *corners, difficult in BOXES[index]:
        if not message.annotation_group or message.annotation_group[-1].group_label != label:
            message.annotation_group.add(group_label=label)
        box = message.annotation_group[-1].annotation.add(instance_id=instance).bbox
        box.xmin, box.ymin, box.xmax, box.ymax = corners
        box.label, box.difficult = label, difficult
    return message.SerializeToString()


@pytest.fixture
def net(tmp_path, monkeypatch):
    """Return a maker of nets over a database of three records."""
    monkeypatch.chdir(tmp_path)
    with lmdb.open("db", map_size=1 << 22) as env, env.begin(write=True) as transaction:
        for index in range(3):
            transaction.put(f"{index:08d}".encode(), record(index))

    def made(transform="", batch=3, phase=TEST, annotated="", tops='top: "x" top: "t"'):
        return Net(f'layer {{ name: "d" type: "AnnotatedData" {tops} transform_param {{ {transform} }} '
                   f'data_param {{ source: "db" backend: LMDB batch_size: {batch} }} '
                   f"annotated_data_param {{ {annotated} }} }}", phase, seed=1)

    return made


def rows(*items):
    return np.array([[place, label, instance, *corners, difficult] for place, item in enumerate(items)
                     for label, instance, *corners, difficult in BOXES[item]], np.float32)


def test_annotated_data_gives_images_and_their_boxes(net):
    made = net("mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.5")
    assert made.blobs["x"].shape == (3, 3, 8, 10) and made.blobs["t"].shape == (1, 1, 1, 8)
    out = made.forward()
    expected = (IMAGES.transpose(0, 3, 1, 2) - np.array([10, 20, 30.0])[:, None, None]) * 0.5
    np.testing.assert_allclose(out["x"], expected, rtol=1e-6)
    np.testing.assert_array_equal(out["t"][0, 0], rows(0, 1, 2))


def test_annotated_data_when_a_batch_has_no_boxes_then_one_row_of_minus_1(net):
    made = net(batch=1)
    np.testing.assert_array_equal(made.forward()["t"][0, 0], rows(0))
    np.testing.assert_array_equal(made.forward()["t"], np.full((1, 1, 1, 8), -1))
    assert made.forward()["t"].shape == (1, 1, 1, 8)


def test_annotated_data_when_mirrored_then_the_boxes_are_too(net):
    made, seen = net("mirror: true", batch=1), set()
    for _ in range(12):
        out = made.forward()
        plain = IMAGES[0].transpose(2, 0, 1)
        if made.blobs["t"].shape == (1, 1, 2, 8):
            turned = np.array_equal(out["x"][0], plain[:, :, ::-1])
            assert turned or np.array_equal(out["x"][0], plain)
            box = out["t"][0, 0, 0, 3:7].tolist()
            assert box == ([0.5, 0.125, 0.75, 0.75] if turned else [0.25, 0.125, 0.5, 0.75])
            seen.add(turned)
    assert seen == {True, False}


@pytest.mark.parametrize("mode", ["LINEAR", "NEAREST", "CUBIC", "AREA", "LANCZOS4"])
def test_annotated_data_when_resized_then_by_opencv(net, mode):
    import cv2

    made = net(f"resize_param {{ prob: 1 resize_mode: WARP height: 4 width: 6 interp_mode: {mode} }}")
    assert made.blobs["x"].shape == (3, 3, 4, 6)
    expected = cv2.resize(IMAGES[0], (6, 4), interpolation=getattr(cv2, f"INTER_{mode}"))
    np.testing.assert_array_equal(made.forward()["x"][0], expected.transpose(2, 0, 1))


@pytest.mark.parametrize(("transform", "annotated", "told"), [
    ("distort_param { hue_prob: 0.5 }", "", "distort_param"), ("expand_param { prob: 0.5 }", "", "expand_param"),
    ("", "batch_sampler { sampler { min_scale: 0.3 } }", "batch_sampler")])
def test_annotated_data_when_it_should_augment_then_builds_and_says_what_is_missing(net, transform, annotated, told):
    made = net(transform, annotated=annotated, phase=TRAIN)
    with pytest.raises(LayerError, match=told):
        made.forward()


@pytest.mark.parametrize(("transform", "told"), [
    ("resize_param { height: 4 }", "resize_param"), ("resize_param { height: 4 width: 100000 }", "resize_param"),
    ("resize_param { height: 4 width: 4 prob: 0.5 }", "prob"), ("crop_size: 3", "crop"),
    ("resize_param { height: 4 width: 4 resize_mode: FIT_SMALL_SIZE }", "WARP")])
def test_annotated_data_when_options_are_not_there_then_refused(net, transform, told):
    with pytest.raises(LayerError, match=told):
        net(transform)


@pytest.mark.parametrize("cut", [1, 5, 40, -1])
def test_parse_annotated_datum_when_damaged_then_an_error(cut):
    with pytest.raises(DataError):
        parse_annotated_datum(record(0)[:cut])
