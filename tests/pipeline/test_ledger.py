"""The ledger's measured effects against scikit-learn and plain OpenCV."""

import cv2
import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from atrouscaffe.data.dataset import find_samples
from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import read_labels
from atrouscaffe.pipeline.ledger import ledger
from atrouscaffe.pipeline.segment import Segmenter

from . import nets, voc


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger")
    samples = find_samples(voc.folder(path / "data", count=4), "val")
    weights = nets.weights(nets.finite(), path / "w.caffemodel")
    return Segmenter(nets.finite(), weights, mean=100, scale=0.02), samples, weights


def mean_iou(truth, prediction):
    """Return the mean IoU over the classes of the truth, in per cent."""
    truth, prediction = (np.concatenate([one.ravel() for one in images]) for images in (truth, prediction))
    kept = truth != 255
    classes = np.unique(truth[kept])
    return 100 * jaccard_score(truth[kept], prediction[kept], labels=classes, average="macro", zero_division=0)


def test_every_choice_is_listed_without_measuring(made):
    rows = ledger(made[0], made[1])
    assert {row["leak"] for row in rows} >= {"decoder", "resize policy", "padding", "mean", "channel order", "palette",
                                            "void", "averaging", "corner alignment", "precision"}
    assert all(row["effect"] is None and row["used"] and row["other"] for row in rows)


def test_measured_effects_equal_those_of_plain_code(made):
    net, samples, weights = made
    before = [blob.data.copy() for blobs in net.net.params.values() for blob in blobs]
    rows = {row["leak"]: row for row in ledger(net, samples, measure=True)}
    after = [blob.data for blobs in net.net.params.values() for blob in blobs]
    assert all(np.array_equal(a, b) for a, b in zip(before, after))
    images = [read_image(sample.image) for sample in samples]
    truth = [read_labels(sample.label) for sample in samples]
    labels = [net.scores(image).argmax(0) for image in images]
    base = mean_iou(truth, labels)

    def warped(image):
        scores = net.scores(cv2.resize(image, (41, 33)))
        return np.stack([cv2.resize(plane, image.shape[1::-1]) for plane in scores]).argmax(0)

    def half_pixel(image):
        coarse = Segmenter(nets.finite(up=""), weights, mean=100, scale=0.02)
        coarse.net.blobs["data"].data[...] = coarse.prepare(image, (33, 41))
        scores = coarse.net.forward()["score"][0]
        large = np.stack([cv2.resize(plane, (41, 33)) for plane in scores])
        return large[:, :image.shape[0], :image.shape[1]].argmax(0)

    unscaled = Segmenter(nets.finite(), weights, mean=0, scale=0.02)
    greys = [cv2.imread(str(sample.label), cv2.IMREAD_GRAYSCALE) for sample in samples]
    expected = {
        "void": mean_iou([np.where(one == 255, 0, one) for one in truth], labels),
        "palette": mean_iou([np.where(one < 7, one, 255) for one in greys], labels),
        "averaging": np.mean([mean_iou([one], [other]) for one, other in zip(truth, labels)]),
        "channel order": mean_iou(truth, [net.scores(image[..., ::-1].copy()).argmax(0) for image in images]),
        "resize policy": mean_iou(truth, [warped(image) for image in images]),
        "corner alignment": mean_iou(truth, [half_pixel(image) for image in images]),
    }
    for name, value in expected.items():
        assert rows[name]["effect"] == pytest.approx(value - base, abs=2e-3), name
        assert rows[name]["note"] == "4 images"
    # without the mean, padding aside: the padding of `unscaled` is 0 as well
    other = mean_iou(truth, [unscaled.scores(image).argmax(0) for image in images])
    assert rows["mean"]["effect"] == pytest.approx(other - base, abs=2e-3)
    assert rows["padding"]["effect"] is not None and rows["precision"]["effect"] is not None
    assert rows["decoder"]["effect"] is not None


def test_net_without_an_enlargement_says_so(tmp_path, made):
    text = nets.finite(up="")
    net = Segmenter(text, nets.weights(text, tmp_path / "w.caffemodel"), mean=100, scale=0.02)
    row = next(row for row in ledger(net, made[1][:1], measure=True) if row["leak"] == "corner alignment")
    assert row["effect"] is None and "not measured" in row["note"]
