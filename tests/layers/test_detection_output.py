"""DetectionOutput, and the boxes' arithmetic, against loops written from SSD's definitions."""

import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.ops.boxes import decode, encode, overlaps, suppress
from tests.check import make_net

DRAW = np.random.default_rng(0)
PRIORS, CLASSES = 9, 3
LOW = DRAW.random((PRIORS, 2)) * 0.6
BOXES = np.concatenate([LOW, LOW + 0.1 + DRAW.random((PRIORS, 2)) * 0.4], 1)
VARIANCES = np.tile([0.1, 0.1, 0.2, 0.2], (PRIORS, 1))
LOCATIONS = DRAW.standard_normal((2, PRIORS * 4)).astype(np.float32)
SCORES = DRAW.random((2, PRIORS * CLASSES)).astype(np.float32)
PRIOR = np.stack([BOXES, VARIANCES]).reshape(1, 2, -1).astype(np.float32)


def detection(options, classes=CLASSES):
    return ('layer { name: "l" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "y" '
            f"detection_output_param {{ num_classes: {classes} {options} }} }}")


def iou(a, b):
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def naive_decode(prior, variance, coded, code):
    """Decode one box."""
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    v = variance * coded
    if code == "CORNER":
        return prior + v
    if code == "CORNER_SIZE":
        return prior + v * [width, height, width, height]
    x, y = v[0] * width + (prior[0] + prior[2]) / 2, v[1] * height + (prior[1] + prior[3]) / 2
    w, h = np.exp(v[2]) * width, np.exp(v[3]) * height
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def naive_nms(boxes, scores, least, threshold, most, eta=1.0):
    order = sorted((i for i in range(len(scores)) if scores[i] > least), key=lambda i: -scores[i])
    kept = []
    for i in order[:most if most > -1 else None]:
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
            threshold *= eta if eta < 1 and threshold > 0.5 else 1
    return kept


def naive(code="CORNER", least=-np.inf, threshold=0.3, most=-1, keep=-1, eta=1.0, encoded=False, shared=True):
    rows = []
    for n in range(2):
        mine = []
        for label in range(1, CLASSES):
            coded = (LOCATIONS[n].reshape(PRIORS, 4) if shared else
                     np.tile(LOCATIONS[n].reshape(PRIORS, 1, 4), (1, CLASSES, 1))[:, label] * label)
            boxes = [naive_decode(BOXES[p], VARIANCES[p] if not encoded else np.ones(4), coded[p], code)
                     for p in range(PRIORS)]
            scores = SCORES[n].reshape(PRIORS, CLASSES)[:, label]
            mine += [[n, label, scores[i], *boxes[i]] for i in naive_nms(boxes, scores, least, threshold, most, eta)]
        if -1 < keep < len(mine):
            best = sorted(mine, key=lambda row: -row[2])[:keep]
            mine = [row for row in mine if row in best]
        rows += mine
    return np.array(rows)


@pytest.mark.parametrize(("options", "arguments"), [
    ("", {}), ("code_type: CENTER_SIZE", {"code": "CENTER_SIZE"}),
    ("code_type: CORNER_SIZE keep_top_k: 3", {"code": "CORNER_SIZE", "keep": 3}),
    ("code_type: CENTER_SIZE confidence_threshold: 0.5 keep_top_k: 5 "
     "nms_param { nms_threshold: 0.6 top_k: 4 eta: 0.8 }",
     {"code": "CENTER_SIZE", "least": 0.5, "threshold": 0.6, "most": 4, "eta": 0.8, "keep": 5}),
    ("variance_encoded_in_target: true", {"encoded": True})])
def test_detection_output_is_what_suppression_leaves(options, arguments, device):
    net = make_net(detection(options), {"loc": LOCATIONS, "conf": SCORES, "prior": PRIOR}, device=device)
    expected = naive(**arguments)
    found = net.forward()["y"]
    assert found.shape == (1, 1, len(expected), 7)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_detection_output_when_locations_are_for_each_class_then_uses_theirs():
    each = np.tile(LOCATIONS.reshape(2, PRIORS, 1, 4), (1, 1, CLASSES, 1)) * np.arange(CLASSES)[:, None]
    net = make_net(detection("share_location: false"), {"loc": each.reshape(2, -1), "conf": SCORES, "prior": PRIOR})
    np.testing.assert_allclose(net.forward()["y"][0, 0], naive(shared=False), rtol=1e-4, atol=1e-5)


def test_detection_output_when_nothing_is_found_then_one_row_an_item():
    net = make_net(detection("confidence_threshold: 2"), {"loc": LOCATIONS, "conf": SCORES, "prior": PRIOR})
    assert net.blobs["y"].shape == (1, 1, 1, 7)
    np.testing.assert_array_equal(net.forward()["y"][0, 0], [[0, *[-1] * 6], [1, *[-1] * 6]])


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
def test_encode_is_the_inverse_of_decode(code):
    coded = encode(BOXES, VARIANCES, BOXES[::-1], code)
    np.testing.assert_allclose(decode(BOXES, VARIANCES, coded, code), BOXES[::-1], rtol=1e-12)


def test_overlaps_are_those_of_each_pair():
    expected = [[iou(a, b) for b in BOXES[:5]] for a in BOXES]
    np.testing.assert_allclose(overlaps(BOXES, BOXES[:5]), expected, rtol=1e-12)
    turned = BOXES[:, [2, 3, 0, 1]]
    np.testing.assert_array_equal(overlaps(turned, turned), np.zeros((PRIORS, PRIORS)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("eta", [1.0, 0.7])
def test_suppress_keeps_what_loops_keep(seed, eta):
    draw = np.random.default_rng(seed)
    low = draw.random((60, 2))
    boxes, scores = np.concatenate([low, low + draw.random((60, 2))], 1), draw.integers(0, 20, 60) / 20
    assert suppress(boxes, scores, 0.1, 0.7, 50, eta).tolist() == naive_nms(boxes, scores, 0.1, 0.7, 50, eta)


@pytest.mark.parametrize(("options", "classes", "bottoms", "error", "told"), [
    ("", 4, {}, ShapeError, r"bottom\[1\] \(scores\)"), ("nms_param { eta: 0 }", 3, {}, LayerError, "eta"),
    ("", 0, {}, LayerError, "num_classes"), ("", 3, {"prior": PRIOR[:, :1]}, ShapeError, r"\(priors\)"),
    ("", 3, {"loc": LOCATIONS[:, 4:]}, ShapeError, r"bottom\[0\] \(locations\)")])
def test_detection_output_when_its_bottoms_do_not_fit_then_refused(options, classes, bottoms, error, told):
    with pytest.raises(error, match=told):
        make_net(detection(options, classes), {"loc": LOCATIONS, "conf": SCORES, "prior": PRIOR} | bottoms)
