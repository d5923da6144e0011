"""Accuracy and SegAccuracy against naive counting."""

from __future__ import annotations

import json

import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError, ShapeError
from tests.layers.one_layer import small_net


def layer(kind: str, options: str = "", tops: str = 'top: "y"') -> str:
    return f'layer {{ name: "l" type: "{kind}" bottom: "x" bottom: "t" {tops} {options} }}'


def run(kind, x, t, options="", tops='top: "y"', dialect="bvlc", device="cpu"):
    net = small_net(layer(kind, options, tops), {"x": x, "t": t}, force=False, dialect=dialect, device=device)
    return net.forward()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_accuracy_of_pixels(k, rng, device):
    x, t = rng.standard_normal((2, 4, 5, 7)), rng.integers(0, 4, (2, 5, 7)).astype(float)
    t[1, 2, 1:5] = 255
    out = run("Accuracy", x, t, f"accuracy_param {{ top_k: {k} ignore_label: 255 }}", 'top: "y" top: "z"',
              device=device)
    hits = {c: [] for c in range(4)}
    for n, row, column in np.ndindex(2, 5, 7):
        if t[n, row, column] != 255:
            label = int(t[n, row, column])
            hits[label].append(label in sorted(range(4), key=lambda c: -x[n, c, row, column])[:k])
    np.testing.assert_allclose(out["y"], np.mean(np.concatenate(list(hits.values()))))
    np.testing.assert_allclose(out["z"], [np.mean(hits[c]) for c in range(4)])


@pytest.mark.parametrize(("dialect", "expected"), [("v1", [0, 0, 1]), ("v2", [0, 0, 1]), ("bvlc", [0, 0, 0])])
def test_accuracy_of_equal_scores(dialect, expected, device):
    found = [run("Accuracy", np.zeros((1, 3)), np.array([float(label)]), dialect=dialect, device=device)["y"]
             for label in range(3)]
    assert found == expected


def test_accuracy_in_v1_takes_whole_items(rng):
    x = rng.standard_normal((5, 3, 2, 2))
    t = x.reshape(5, 12).argmax(axis=1).astype(float)
    t[0] = (t[0] + 1) % 12
    assert run("Accuracy", x, t, dialect="v1")["y"] == 0.8


def test_accuracy_without_a_counted_label_and_of_absent_classes_is_zero(device):
    out = run("Accuracy", np.eye(3), np.full(3, 9.0), "accuracy_param { ignore_label: 9 }", 'top: "y" top: "z"',
              device=device)
    assert out["y"] == 0 and not out["z"].any()


def test_accuracy_checks_its_options_and_labels():
    with pytest.raises(LayerError, match="top_k"):
        run("Accuracy", np.eye(3), np.zeros(3), "accuracy_param { top_k: 4 }")
    with pytest.raises(ShapeError, match=r"bottom\[1\]"):
        run("Accuracy", np.eye(3), np.zeros(4))
    with pytest.raises(DataError, match="got 3"):
        run("Accuracy", np.eye(3), np.array([0.0, 3, 1]))


def naive_measures(found, labels, classes, ignore=()):
    """Pixel accuracy, recall over classes of the labels, IoU over all with absent ones 1."""
    pairs = [(int(label), int(c)) for label, c in zip(labels.ravel(), found.ravel()) if label not in ignore]
    recalls, ious = [], []
    for c in range(classes):
        true = sum(label == c for label, _ in pairs)
        both = sum(label == c == guess for label, guess in pairs)
        union = sum(label == c or guess == c for label, guess in pairs)
        if true:
            recalls.append(both / true)
        ious.append(both / union if union else 1)
    return np.mean([label == guess for label, guess in pairs]), np.mean(recalls), np.mean(ious)


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_seg_accuracy(dialect, rng, device):
    x, t = rng.standard_normal((3, 6, 5, 7)), rng.integers(0, 4, (3, 1, 5, 7)).astype(float)  # 4 and 5 absent
    x[:, 5] = -9  # never found either
    t[0, 0, 1, 2:4] = 255
    t[2, 0, 0, 0] = 254
    out = run("SegAccuracy", x, t, "seg_accuracy_param { ignore_label: 255 ignore_label: 254 }", dialect=dialect,
              device=device)["y"]
    assert out.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(out.ravel(), naive_measures(x.argmax(1), t[:, 0], 6, {254, 255}))


def test_seg_accuracy_of_equal_scores_goes_to_the_larger_class(device):
    out = run("SegAccuracy", np.zeros((1, 3, 1, 2)), np.array([[[[2.0, 0.0]]]]), device=device)["y"]
    np.testing.assert_allclose(out.ravel(), [0.5, 0.5, (0 + 1 + 0.5) / 3])


def test_seg_accuracy_adds_up_without_reset_but_not_in_v1(rng):
    batches = [(rng.standard_normal((1, 3, 5, 7)), rng.integers(0, 3, (1, 1, 5, 7)).astype(float)) for _ in range(2)]
    x, t = (np.concatenate(parts) for parts in zip(*batches))
    for dialect, last in (("v2", (x, t)), ("v1", batches[1])):
        net = small_net(layer("SegAccuracy", "seg_accuracy_param { reset: false }"),
                        {"x": batches[0][0], "t": batches[0][1]}, force=False, dialect=dialect)
        for scores, labels in batches:
            net.blobs["x"].data[...], net.blobs["t"].data[...] = scores, labels
            out = net.forward()["y"]
        np.testing.assert_allclose(out.ravel(), naive_measures(last[0].argmax(1), last[1][:, 0], 3))
        state = net._execution.state()["l"]["state"]
        assert json.loads(json.dumps(state)) == state


def test_seg_accuracy_without_counted_pixels():
    out = run("SegAccuracy", np.zeros((1, 3, 1, 2)), np.full((1, 1, 1, 2), 255.0),
              "seg_accuracy_param { ignore_label: 255 }")["y"]
    assert out.ravel().tolist() == [0, 0, 1]


def test_seg_accuracy_names_unexpected_labels_and_shapes():
    with pytest.raises(DataError, match="got 220 at image 0, row 0, column 1.*palette"):
        run("SegAccuracy", np.zeros((1, 3, 1, 2)), np.array([[[[0.0, 220.0]]]]))
    with pytest.raises(ShapeError, match=r"\(1, 1, 1, 2\)"):
        run("SegAccuracy", np.zeros((1, 3, 1, 2)), np.zeros((1, 1, 2, 2)))


SEGNET = 'layer { name: "bn" type: "BN" bottom: "x" top: "n" bn_param { scale_filler { value: 1 } } }'
ENET = ('layer { name: "c" type: "Convolution" bottom: "x" top: "n2" '
        "convolution_param { num_output: 1 kernel_size: 1 dilation: 2 } }")


@pytest.mark.parametrize(("around", "shape", "absent"), [
    ("", (4,), 0), (SEGNET, (4, 1, 1, 1), 1), (SEGNET + ENET, (4,), 0)])
def test_accuracy_of_each_class_in_a_net_of_segnet_is_1_for_absent_classes(around, shape, absent, device):
    x, t = np.zeros((1, 4, 2, 2)), np.array([[[0.0, 0], [2, 2]]])
    x[0, 2], x[0, 0, 0, 0] = 1, 2
    net = small_net(layer("Accuracy", "", 'top: "y" top: "z"') + around, {"x": x, "t": t}, force=False, device=device)
    out = net.forward()
    assert out["z"].shape == shape
    np.testing.assert_array_equal(out["z"].ravel(), [0.5, absent, 1, absent])
