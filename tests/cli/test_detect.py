"""Detector and ``atrouscaffe detect``: a net whose weights say where the object is."""

import json

import cv2
import numpy as np
import pytest

from atrouscaffe.cli.main import main
from atrouscaffe.data.palette import color_map
from atrouscaffe.errors import ArgumentError
from atrouscaffe.pipeline.detect import Detector

NET = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "prior" type: "PriorBox" bottom: "data" bottom: "data" top: "prior"
  prior_box_param { min_size: 4 step: 8 img_size: 8 } }
layer { name: "slice" type: "Slice" bottom: "prior" top: "first" top: "rest" slice_param { axis: 2 slice_point: 4 } }
layer { name: "silence" type: "Silence" bottom: "rest" }
layer { name: "loc" type: "InnerProduct" bottom: "data" top: "loc" inner_product_param { num_output: 4 } }
layer { name: "conf" type: "InnerProduct" bottom: "data" top: "conf" inner_product_param { num_output: 3
  weight_filler { value: 0.002 } bias_filler { value: 0.1 } } }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "first" top: "found"
  detection_output_param { num_classes: 3 confidence_threshold: 0.01 } }
"""
LABELS = 'item { name: "a" label: 1 display_name: "ant" } item { name: "b" label: 2 }'
IMAGE = np.full((40, 80, 3), 30, np.uint8)


@pytest.fixture
def files(tmp_path):
    """Write net, label map and picture; return their folder."""
    (tmp_path / "deploy.prototxt").write_text(NET)
    (tmp_path / "labels.prototxt").write_text(LABELS)
    cv2.imwrite(str(tmp_path / "street.png"), IMAGE)
    return tmp_path


def score(mean, scale):
    """Sum over the input of what the mean leaves, by the net's weights."""
    return 0.1 + 0.002 * scale * sum(30 - m for m in mean) * 64


def test_detector_finds_boxes_in_pixels(files):
    detector = Detector(files / "deploy.prototxt", mean=(10, 20, 25), scale=0.5, allow_missing=True,
                        label_map=files / "labels.prototxt")
    first, second = detector(IMAGE, threshold=0.2)
    assert (first.label, first.name, second.name) == (1, "ant", "b")
    np.testing.assert_allclose(first.score, score((10, 20, 25), 0.5), rtol=1e-4)
    np.testing.assert_allclose(first.box, (20, 10, 60, 30), atol=1e-3)
    assert detector(IMAGE, threshold=first.score + 0.01) == []


def test_detect_prints_and_draws_what_it_finds(files, capsys):
    words = ["detect", str(files / "street.png"), "--model", str(files / "deploy.prototxt"), "--allow-missing",
             "--mean", "10,20,25", "--scale", "0.5", "--labels", str(files / "labels.prototxt"), "--out",
             str(files / "out")]
    assert main([*words, "--threshold", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "2 found" in out and "ant  20.0 10.0 60.0 30.0" in out
    picture = cv2.imread(str(files / "out" / "street_boxes.png"))
    assert picture.shape[0] > 40 and picture.shape[1] == 80
    np.testing.assert_array_equal(picture[20, 20], color_map()[1, ::-1])
    np.testing.assert_array_equal(picture[20, 40], IMAGE[20, 40])
    assert main([*words, "--json", "--no-picture"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["results"]
    assert entry["objects"][0]["name"] == "ant" and "picture" not in entry


def test_detect_when_a_picture_cannot_be_read_then_goes_on_and_returns_2(files, capsys):
    (files / "bad.png").write_bytes(b"no picture")
    words = ["detect", str(files / "bad.png"), str(files / "street.png"), "--model", str(files / "deploy.prototxt"),
             "--allow-missing", "--mean", "0", "--no-picture"]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "bad.png" in told.err and "street.png: 2 found" in told.out


@pytest.mark.parametrize(("text", "options", "told"), [
    (NET, {}, "weights"), (NET, {"mean": (1, 2), "allow_missing": True}, "mean"),
    (NET, {"scale": 0, "allow_missing": True}, "scale"),
    (NET.replace("dim: 1 dim: 3", "dim: 1 dim: 1"), {"allow_missing": True}, "one input of shape"),
    (NET.partition("layer")[0] + 'layer { type: "ReLU" bottom: "data" top: "y" }', {"allow_missing": True},
     "0 of those")])
def test_detector_when_it_cannot_be_made_then_says_why(text, options, told):
    with pytest.raises(ArgumentError, match=told):
        Detector(text, **options)
