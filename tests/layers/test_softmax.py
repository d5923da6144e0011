"""Softmax and SoftmaxWithLoss against SciPy and a naive loop in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special as sp

from atrouscaffe import TRAIN
from atrouscaffe.errors import DataError, FileMissingError, LayerError, ShapeError
from atrouscaffe.runtime.threads import set_num_threads
from tests.conftest import ORACLE
from tests.layers.one_layer import check_gradients, forward, gradients, small_net
from tests.oracle_run import Case

SHAPE = (2, 3, 5, 7)


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize(("shape", "axis"), [(SHAPE, 1), (SHAPE, 0), (SHAPE, -1), (SHAPE, 2), ((5, 7), 1), ((6,), 0)])
def test_softmax(shape, axis, in_place, rng, device):
    x, top = 3 * rng.standard_normal(shape), "h" if in_place else "y"
    net = small_net('layer { name: "p" type: "Power" bottom: "x" top: "h" }'
                    f'layer {{ name: "l" type: "Softmax" bottom: "h" top: "{top}" softmax_param {{ axis: {axis} }} }}',
                    {"x": x}, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs[top].data, sp.softmax(x, axis=axis), rtol=1e-13)
    check_gradients(net, ["x"], [top])


def test_softmax_of_large_scores_and_any_number_of_threads(rng):
    x = (1e4 * rng.standard_normal((2, 21, 201, 203))).astype(np.float32)
    x[0, :, 0, 0] = -np.float32(3e38)
    results = []
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            results.append(forward('layer { name: "l" type: "Softmax" bottom: "x" top: "y" }', {"x": x},
                                   dtype=np.float32))
    finally:
        set_num_threads(None)
    assert np.array_equal(*results)
    np.testing.assert_allclose(results[0], sp.softmax(x.astype(np.float64), axis=1), atol=1e-6)


def loss_layer(options: str = "", tops: str = 'top: "y"') -> str:
    return f'layer {{ name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" {tops} {options} }}'


def naive(x, labels, weights, ignore):
    """Return the weighted sum of losses, its gradient, the number of counted pixels and their weights' sum."""
    total, count, weight_sum, grad = 0.0, 0, 0.0, np.zeros(x.shape)
    n, channels, h, w = x.shape
    for i in range(n):
        for row in range(h):
            for column in range(w):
                label = int(labels[i, 0, row, column])
                if label in ignore:
                    continue
                scores = x[i, :, row, column]
                p = [math.exp(s - max(scores)) for s in scores]
                p = [v / sum(p) for v in p]
                total -= weights[label] * math.log(p[label])
                count, weight_sum = count + 1, weight_sum + weights[label]
                for c in range(channels):
                    grad[i, c, row, column] = weights[label] * (p[c] - (c == label))
    return total, grad, count, weight_sum


@pytest.fixture
def scores(rng):
    labels = rng.integers(0, 3, (2, 1, 5, 7)).astype(float)
    labels[0, 0, 1, 2:6] = 255
    labels[1, 0, 0, 0] = 254
    return {"x": 2 * rng.standard_normal(SHAPE), "t": labels}


@pytest.mark.parametrize(("dialect", "options", "divisor"), [
    ("v1", "softmaxloss_param { ignore_label: 255 ignore_label: 254 }", "weights"),
    ("bvlc", "loss_param { ignore_label: 255 }", "count"),
    ("v2", "loss_param { ignore_label: 255 normalization: FULL }", "all"),
    ("bvlc", "loss_param { ignore_label: 255 normalization: BATCH_SIZE }", "batch"),
    ("bvlc", "loss_param { ignore_label: 255 normalization: NONE }", "one"),
    ("v2", "loss_param { ignore_label: 255 normalize: false }", "batch"),
    ("v1", "loss_param { ignore_label: 255 }", "weights"),
    ("bvlc", "loss_param { ignore_label: 255 weight_by_label_freqs: true class_weighting: 0.5 class_weighting: 2 "
             "class_weighting: 0 }", "count")])
def test_loss_and_gradient(dialect, options, divisor, scores, device):
    if "254" not in options:
        scores["t"][scores["t"] == 254] = 255
    weights = [0.5, 2, 0] if "class_weighting" in options else [1, 1, 1]
    total, grad, count, weight_sum = naive(scores["x"], scores["t"], weights, {254, 255})
    divided = {"weights": weight_sum, "count": count, "all": 70, "batch": 2, "one": 1}[divisor]
    net = small_net(loss_layer(options + " loss_weight: 0.75"), scores, dialect=dialect, phase=TRAIN, device=device)
    net.blobs["x"].diff[...] = 17  # what an earlier pass left must not shine through at ignored pixels
    found = gradients(net, {}, ["x"])["x"]
    np.testing.assert_allclose(net.blobs["y"].data, total / divided, rtol=1e-12)
    np.testing.assert_allclose(found, 0.75 * grad / divided, rtol=1e-9, atol=1e-12)
    assert not found[0, :, 1, 2:6].any()
    check_gradients(net, ["x"])


def test_class_weights_from_a_file_divide_by_their_sum(scores, tmp_path, monkeypatch, device):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").write_text("0.5 2\n3.25\n")
    options = 'softmaxloss_param { weight_source: "weights.txt" ignore_label: 255 ignore_label: 254 }'
    total, grad, _, weight_sum = naive(scores["x"], scores["t"], [0.5, 2, 3.25], {254, 255})
    net = small_net(loss_layer(options), scores, dialect="v1", device=device)
    found = gradients(net, {}, ["x"])["x"]
    np.testing.assert_allclose(net.blobs["y"].data, total / weight_sum, rtol=1e-12)
    np.testing.assert_allclose(found, grad / weight_sum, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("content", "error", "told"), [
    (None, FileMissingError, "weights.txt"), ("1 2", ShapeError, "expected 3"), ("1 2 x", DataError, "numbers"),
    ("1 -2 3", DataError, "at least 0"), ("1 inf 3", DataError, "finite"), ("1 nan 3", DataError, "finite"),
    (b"\xff\xfe\x00", DataError, "numbers")])
def test_bad_class_weights_are_named(content, error, told, scores, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "weights.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=told):
        small_net(loss_layer('softmaxloss_param { weight_source: "weights.txt" }'), scores, dialect="v1")


def test_class_weights_stay_inside_the_allowed_folders(scores, tmp_path, monkeypatch):
    (tmp_path / "weights.txt").write_text("1 2 3")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match="outside"):
        small_net(loss_layer('softmaxloss_param { weight_source: "../weights.txt" }'), scores, dialect="v1")


def test_class_weighting_without_weights_is_named(scores):
    with pytest.raises(LayerError, match="class_weighting"):
        small_net(loss_layer("loss_param { weight_by_label_freqs: true }"), scores)


@pytest.mark.parametrize("dialect", ["v1", "v2", "bvlc"])
def test_all_ignored_gives_zero_loss_and_gradient(dialect, scores, device):
    scores["t"][...] = 255
    net = small_net(loss_layer("loss_param { ignore_label: 255 }"), scores, dialect=dialect, device=device)
    net.blobs["x"].diff[...] = 17
    assert not gradients(net, {}, ["x"])["x"].any()
    assert net.blobs["y"].data == 0


def test_recorded_case_without_a_counted_pixel_is_finite_here(monkeypatch):
    folder = ORACLE / "cases" / "v1_softmaxloss_all_ignored_v1"
    monkeypatch.chdir(folder)
    case = Case(folder)
    assert np.isnan(case.arrays["out:loss"]).all()
    net = case.net()
    net.forward()
    net.backward()
    assert net.blobs["loss"].data == 0 and not net.blobs["data"].diff.any()


def test_second_top_is_the_softmax(scores, device):
    net = small_net(loss_layer("loss_param { ignore_label: 255 }", 'top: "y" top: "p"'), scores, phase=TRAIN,
                    device=device)
    net.blobs["t"].data[...] = 1
    net.forward()
    np.testing.assert_allclose(net.blobs["p"].data, sp.softmax(scores["x"], axis=1), rtol=1e-13)
    assert net.blobs["y"].shape == ()


def test_other_axis(rng, device):
    x, labels = rng.standard_normal((2, 3, 5, 7)), rng.integers(0, 5, (2, 3, 7)).astype(float)
    net = small_net(loss_layer("softmax_param { axis: 2 }"), {"x": x, "t": labels}, device=device)
    net.forward()
    log_p = sp.log_softmax(x, axis=2)
    expected = -np.take_along_axis(log_p, labels.astype(int)[:, :, None], axis=2).mean()
    np.testing.assert_allclose(net.blobs["y"].data, expected, rtol=1e-13)
    check_gradients(net, ["x"])


def test_loss_of_a_certain_mistake_is_clamped_as_in_caffe(device):
    net = small_net(loss_layer(), {"x": np.array([[0.0, 1e6]]), "t": np.array([0.0])}, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, -np.log(np.finfo(np.float32).tiny))


@pytest.mark.parametrize(("value", "told"), [
    (38, "palette"), (147, "palette"), (220, "palette"), (255, "ignore_label 255"), (-1, "0 to 2"), (3, "0 to 2"),
    (1.5, "8k.1"), (np.nan, "got nan"), (1e20, "got 1e.20")])
def test_unexpected_labels_are_named_with_their_place(value, told, scores, device):
    scores["t"][...] = 0
    scores["t"][1, 0, 3, 4] = value
    net = small_net(loss_layer(), scores, device=device)
    with pytest.raises(DataError, match=rf"(?s)image 1, row 3, column 4.*{told}|{told}.*image 1, row 3, column 4"):
        net.forward()


def test_labels_must_fit_the_scores(scores):
    with pytest.raises(ShapeError, match="70 in all"):
        small_net(loss_layer(), {"x": scores["x"], "t": np.zeros((2, 1, 5, 6))})
