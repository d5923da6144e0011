"""Classifier and Detector on a small net, against the steps done one by one."""

from __future__ import annotations

import numpy as np
import pytest

import atrouscaffe.pycaffe as caffe

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
MEAN = np.array([104.0, 117.0, 123.0])


@pytest.fixture
def files(tmp_path):
    path, weights = tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"
    path.write_text(TEXT)
    caffe.Net(str(path), caffe.TEST, seed=3).save(str(weights))
    return str(path), str(weights)


def by_hand(net, crops):
    """Probabilities of (6, 6, 3) RGB crops from 0 to 1."""
    weight, bias = (blob.data.astype(np.float64) for blob in net.params["ip"])
    rows = [(crop.transpose(2, 0, 1)[::-1] * 255.0 - MEAN[:, None, None]).ravel() for crop in crops]
    scores = np.array(rows) @ weight.T + bias
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_predict_averages_over_ten_crops_or_takes_the_centre(files, rng):
    net = caffe.Classifier(*files, image_dims=(8, 9), mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0))
    images = [rng.random((8, 9, 3)).astype(np.float32) for _ in range(2)]
    crops = caffe.io.oversample(images, (6, 6))
    predictions = net.predict(images)
    assert predictions.shape == (2, 5)
    np.testing.assert_allclose(predictions, by_hand(net, crops).reshape(2, 10, 5).mean(1), rtol=1e-4)
    centre = net.predict(images, oversample=False)
    np.testing.assert_allclose(centre, by_hand(net, [image[1:7, 1:7] for image in images]), rtol=1e-4)
    assert tuple(net.image_dims) == (8, 9) and tuple(net.crop_dims) == (6, 6)


def test_pictures_of_any_size_are_resized(files, rng):
    net = caffe.Classifier(*files, mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0))
    image = rng.random((20, 13, 3)).astype(np.float32)
    expected = by_hand(net, [caffe.io.resize_image(image, (6, 6))])
    np.testing.assert_allclose(net.predict([image], False), expected, rtol=1e-4)


@pytest.fixture
def picture(tmp_path, rng):
    from PIL import Image

    pixels = rng.integers(0, 256, (12, 15, 3)).astype(np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return str(path), pixels / 255


def test_windows_are_cut_warped_and_classified(files, picture):
    path, pixels = picture
    net = caffe.Detector(*files, mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0))
    windows = [(0, 0, 6, 6), (2, 3, 11, 9)]
    found = net.detect_windows([(path, windows)])
    assert [d["window"] for d in found] == windows and {d["filename"] for d in found} == {path}
    crops = [caffe.io.resize_image(pixels[y1:y2, x1:x2].astype(np.float32), (6, 6)) for y1, x1, y2, x2 in windows]
    np.testing.assert_allclose([d["prediction"] for d in found], by_hand(net, crops), rtol=1e-4)
    assert net.detect_windows([]) == []


def test_context_around_a_window_is_padded_with_the_mean(files, picture):
    _, pixels = picture
    net = caffe.Detector(*files, mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0), context_pad=1)
    crop = net.crop(pixels, np.array([0, 0, 7, 7]))
    assert crop.shape == (6, 6, 3)
    rgb = (MEAN[::-1] / 255).astype(np.float32)
    np.testing.assert_allclose(crop[0], np.tile(rgb, (6, 1)), rtol=1e-5)
    np.testing.assert_allclose(crop[:, 0], np.tile(rgb, (6, 1)), rtol=1e-5)
    assert np.abs(crop[1:, 1:] - rgb).max() > 0.1
    inside = net.crop(pixels, np.array([4, 5, 7, 8]))
    assert inside.shape == (6, 6, 3) and not np.isclose(inside, rgb, atol=1e-3).all(-1).any()
    net.transformer.mean.clear()
    net.configure_crop(1)
    assert (net.crop(pixels, np.array([0, 0, 7, 7]))[0] == 0).all()
    for wrong in (3, 9):
        with pytest.raises(ValueError, match="context_pad"):
            net.configure_crop(wrong)


def test_what_cannot_be_done_is_told(files, picture):
    net = caffe.Detector(*files)
    with pytest.raises(ImportError, match="selective_search"):
        net.detect_selective_search([picture[0]])
    with pytest.raises(ValueError, match="no pixel"):
        net.crop(picture[1], (5, 5, 5, 9))
    with pytest.raises(ValueError, match="at least one"):
        caffe.Classifier(*files).predict([])
