"""Scores against NumPy, SciPy and hand-made numbers."""

import numpy as np
import pytest
from scipy import ndimage

from atrouscaffe.errors import ArgumentError, DataError
from atrouscaffe.metrics import ConfusionMatrix, boundary_distance, trimap_band


def blobs(seed, shape=(37, 53), classes=5):
    """A label map of patches, with void between some of them."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(classes, *shape)), (0, 4, 4))
    labels = noise.argmax(0).astype(np.uint8)
    gap = np.sort(noise, axis=0)
    labels[(gap[-1] - gap[-2] < 0.01) & (rng.random(shape) < 0.9)] = 255
    return labels


def slow_counts(pairs, classes):
    counts = np.zeros((classes, classes), int)
    for truth, prediction in pairs:
        for t, p in zip(truth.ravel(), prediction.ravel()):
            if t != 255:
                counts[t, p] += 1
    return counts


def test_counts_equal_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    pairs = [(blobs(seed), rng.integers(0, 5, (37, 53)).astype(np.uint8)) for seed in range(3)]
    matrix = ConfusionMatrix(5)
    for truth, prediction in pairs:
        matrix.update(truth, prediction)
    assert np.array_equal(matrix.counts, slow_counts(pairs, 5))
    other = ConfusionMatrix(5)
    other.update(*pairs[0])
    other += matrix
    assert other.pixels == matrix.pixels + (pairs[0][0] != 255).sum()


def test_scores_of_a_matrix_worked_out_by_hand():
    matrix = ConfusionMatrix(4)
    matrix.counts[:3, :3] = [[6, 2, 0], [1, 3, 0], [0, 0, 0]]
    matrix.counts[1, 2] = 4  # predicted, never true; class 3 is in neither
    assert matrix.pixel_accuracy == pytest.approx(9 / 16)
    assert matrix.mean_accuracy == pytest.approx((6 / 8 + 3 / 8) / 2)
    assert matrix.iou[:3] == pytest.approx([6 / 9, 3 / 10, 0])
    assert np.isnan(matrix.iou[3])
    assert matrix.mean_iou() == pytest.approx((6 / 9 + 3 / 10) / 4)
    assert matrix.mean_iou("skip") == pytest.approx((6 / 9 + 3 / 10) / 2)
    assert np.isnan(matrix.mean_iou("nan"))
    assert matrix.frequency_weighted_iou == pytest.approx(6 / 9 * 8 / 16 + 3 / 10 * 8 / 16)
    assert list(matrix.present) == [True, True, False, False]


def test_empty_matrix_scores_nan():
    matrix = ConfusionMatrix(3)
    scores = [matrix.pixel_accuracy, matrix.mean_accuracy, matrix.frequency_weighted_iou, matrix.mean_iou(),
              matrix.mean_iou("skip"), matrix.mean_iou("nan")]
    assert np.isnan(scores).all()


@pytest.mark.parametrize(("truth", "prediction", "word"), [
    (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), "size"),
    (np.zeros((2, 3), np.uint8), np.full((2, 3), 255, np.uint8), "predicted label 255"),
    (np.full((2, 3), 21, np.uint8), np.zeros((2, 3), np.uint8), "true label 21"),
    (np.zeros((2, 3)), np.zeros((2, 3), np.uint8), "whole numbers"),
])
def test_labels_that_cannot_be_counted_are_refused(truth, prediction, word):
    matrix = ConfusionMatrix()
    with pytest.raises(DataError, match=word):
        matrix.update(truth, prediction)
    assert matrix.pixels == 0


def test_unknown_convention_is_refused():
    with pytest.raises(ArgumentError, match="absent"):
        ConfusionMatrix().mean_iou("one")


@pytest.mark.parametrize("width", [1, 2, 7])
def test_trimap_band_equals_scipy_dilation(width):
    truth = blobs(1)
    void = truth == 255
    grown = ndimage.binary_dilation(void, np.ones((2 * width + 1, 2 * width + 1)))
    band = trimap_band(truth, width)
    assert void.any()
    assert np.array_equal(band, grown & ~void)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_boundary_distance_equals_scipy(seed):
    truth = blobs(seed)
    height, width = truth.shape
    border = truth == 255
    for y in range(height):
        for x in range(width):
            for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= ny < height and 0 <= nx < width and 255 not in (truth[y, x], truth[ny, nx]):
                    border[y, x] |= truth[y, x] != truth[ny, nx]
    expected = ndimage.distance_transform_edt(~border)
    distance = boundary_distance(truth)
    assert np.abs(distance - expected).max() < 1e-5
    for band in (1, 2, 4, 8):  # no rounding may move a pixel over the edge of a band
        assert np.array_equal(distance <= band, expected <= band)


def test_boundary_distance_without_a_border_is_infinite():
    assert np.isinf(boundary_distance(np.full((4, 5), 3, np.uint8))).all()
    assert not boundary_distance(np.full((4, 5), 255, np.uint8)).any()
