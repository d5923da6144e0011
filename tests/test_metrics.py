"""Scores against NumPy, SciPy and hand-made numbers."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import confusion_matrix

from atrouscaffe.data.palette import read_labels
from atrouscaffe.errors import ArgumentError, DataError
from atrouscaffe.metrics import Bands, ConfusionMatrix, boundary_distance, trimap_band, void_distance


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


def real_labels(shared_data, count):
    folder = shared_data / "voc" / "SegmentationClass"
    return [read_labels(path) for path in sorted(folder.glob("2007_*.png"))[:count]]


def reference_scores(truth, prediction, classes):
    """Every figure by scikit-learn's confusion matrix, over pixels that are not void."""
    kept = truth != 255
    counts = confusion_matrix(truth[kept], prediction[kept], labels=range(classes))
    tp, rows, columns = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        iou = tp / (rows + columns - tp)
        recall = tp / rows
    return counts, {"pixel_accuracy": tp.sum() / counts.sum(), "mean_accuracy": recall[rows > 0].mean(),
                    "mean_iou": np.nan_to_num(iou).mean(), "present": iou[rows > 0].mean(),
                    "weighted": np.nansum(iou * rows) / counts.sum()}


def compare_with_reference(truth, prediction, classes):
    matrix = ConfusionMatrix(classes)
    for one, other in zip(truth, prediction):
        matrix.update(one, other)
    flat = [np.concatenate([one.ravel() for one in images]) for images in (truth, prediction)]
    counts, expected = reference_scores(*flat, classes)
    assert np.array_equal(matrix.counts, counts)
    found = {"pixel_accuracy": matrix.pixel_accuracy, "mean_accuracy": matrix.mean_accuracy,
             "mean_iou": matrix.mean_iou(), "present": matrix.mean_iou("skip"),
             "weighted": matrix.frequency_weighted_iou}
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_of_random_labels_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = [blobs(10 * seed + i, (23 + i, 31)) for i in range(4)]
    prediction = [rng.integers(0, 4, labels.shape).astype(np.uint8) for labels in truth]  # class 4 is never predicted
    compare_with_reference(truth, prediction, 7)  # classes 5 and 6 are in neither


def test_scores_of_real_labels_equal_scikit_learn(shared_data):
    truth = real_labels(shared_data, 5)
    prediction = [np.where(np.roll(labels, 7, 1) == 255, 0, np.roll(labels, 7, 1)) for labels in truth]
    compare_with_reference(truth, prediction, 21)


@pytest.mark.parametrize("seed", [5, 6])
def test_void_distance_equals_scipy_chessboard(seed):
    truth = blobs(seed)
    expected = ndimage.distance_transform_cdt(truth != 255, "chessboard")
    assert np.array_equal(void_distance(truth), expected)
    assert np.isinf(void_distance(np.zeros((3, 4), np.uint8))).all()


def check_bands(truth, prediction, classes, widths):
    """Hold both kinds of bands against SciPy's dilation and distance, one width at a time."""
    void = truth == 255
    border = void.copy()
    padded = np.pad(truth.astype(int), 1, constant_values=-1)
    middle = padded[1:-1, 1:-1]
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        border |= (other != middle) & (other >= 0) & (other != 255) & ~void
    exact = ndimage.distance_transform_edt(~border)
    by_void, by_distance = Bands(classes, 40), Bands(classes, 40)
    by_void.update(truth, prediction, void_distance(truth))
    by_distance.update(truth, prediction, boundary_distance(truth))
    for width in widths:
        grown = ndimage.binary_dilation(void, np.ones((2 * width + 1, 2 * width + 1)))
        for bands, mask in ((by_void, grown & ~void), (by_distance, (exact <= width) & ~void)):
            expected = confusion_matrix(truth[mask], prediction[mask], labels=range(classes))
            assert np.array_equal(bands.matrices()[width - 1].counts, expected), width


def test_bands_of_random_labels_equal_scipy():
    truth = blobs(8, (61, 83))
    check_bands(truth, np.random.default_rng(8).integers(0, 5, truth.shape).astype(np.uint8), 5, (1, 2, 3, 7, 19, 40))


def test_bands_of_real_labels_equal_scipy(shared_data):
    for truth in real_labels(shared_data, 2):
        shifted = np.roll(truth, 5, 0)
        check_bands(truth, np.where(shifted == 255, 0, shifted), 21, (1, 2, 8, 40))


def test_bands_add_up_over_images():
    truth, prediction = blobs(1), np.zeros((37, 53), np.uint8)
    both, once = Bands(5, 3), Bands(5, 3)
    once.update(truth, prediction, void_distance(truth))
    both += once
    both += once
    assert np.array_equal(both.matrices()[2].counts, 2 * once.matrices()[2].counts)
    with pytest.raises(ArgumentError, match="widest"):
        Bands(5, 0)
