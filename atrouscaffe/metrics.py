"""Scores of label maps: one confusion matrix over a whole set, and bands along object borders.

Source: ``MyVOCevalseg.m`` and ``MyVOCevalsegBoundary.m`` of the DeepLab authors, and VOC's devkit.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.errors import ArgumentError, DataError

__all__ = ["Bands", "ConfusionMatrix", "boundary_distance", "trimap_band", "void_distance"]


class ConfusionMatrix:
    """Pixel counts by true and predicted class.

    Parameters
    ----------
    classes : int
    ignore : int
        True label of pixels that are left out.

    Attributes
    ----------
    counts : (classes, classes) int64
        Rows are true classes, columns predicted ones.
    """

    def __init__(self, classes: int = 21, ignore: int = 255) -> None:
        if not 1 <= classes <= 256:
            raise ArgumentError(f"classes: expected 1 to 256, got {classes}")
        self.classes, self.ignore = classes, ignore
        self.counts = np.zeros((classes, classes), np.int64)  # (truth, prediction)

    def update(self, truth: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Add the pixels of one image.

        Parameters
        ----------
        truth, prediction : (H, W) integers
        mask : (H, W) bool, optional
            Count only these pixels.

        Raises
        ------
        DataError
            Shapes differ, or a label is out of range; nothing was counted.
        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        if truth.shape != prediction.shape:
            raise DataError(f"expected a prediction of the truth's shape {truth.shape}, got {prediction.shape}; the "
                            "result must have the image's size")
        if truth.dtype.kind not in "iu" or prediction.dtype.kind not in "iu":
            raise DataError(f"expected whole numbers as labels, got {truth.dtype} and {prediction.dtype}")
        counted = truth != self.ignore
        if mask is not None:
            counted = counted & mask
        truth, prediction = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
        for what, labels in (("true", truth), ("predicted", prediction)):
            if labels.size and (labels.min() < 0 or labels.max() >= self.classes):
                bad = labels[(labels < 0) | (labels >= self.classes)][0]
                raise DataError(f"{what} label {bad}: expected 0 to {self.classes - 1}" +
                                (f", or {self.ignore} to leave the pixel out" if what == "true" else ""))
        flat = np.bincount(truth * self.classes + prediction, minlength=self.classes**2)
        self.counts += flat.reshape(self.classes, self.classes)

    def __iadd__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add the counts of `other`."""
        self.counts += other.counts
        return self

    @property
    def pixels(self) -> int:
        """Pixels counted."""
        return int(self.counts.sum())

    @property
    def present(self) -> np.ndarray:
        """Which classes occur in the truth, (classes,) bool."""
        return self.counts.sum(1) > 0

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels whose class is right; NaN without pixels."""
        return float(_ratio(np.trace(self.counts), self.pixels))

    @property
    def class_accuracy(self) -> np.ndarray:
        """Recall of each class, (classes,) float64; NaN for one that the truth does not have."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    @property
    def mean_accuracy(self) -> float:
        """Mean recall over the classes that the truth has."""
        return _mean(self.class_accuracy[self.present])

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, (classes,) float64; NaN where truth and prediction lack it."""
        tp = np.diag(self.counts)
        return _ratio(tp, self.counts.sum(0) + self.counts.sum(1) - tp)

    def mean_iou(self, absent: str = "zero") -> float:
        """Return the mean IoU.

        Parameters
        ----------
        absent : {"zero", "nan", "skip"}
            What a class counts that neither truth nor prediction has: 0, as in the authors' program;
            NaN for the whole mean, as in VOC's devkit. ``"skip"`` takes the mean over the classes
            that the truth has.
        """
        if absent == "zero":
            return _mean(np.nan_to_num(self.iou, nan=0.0)) if self.pixels else float("nan")
        if absent == "nan":
            return _mean(self.iou)
        if absent == "skip":
            return _mean(self.iou[self.present])
        raise ArgumentError(f"absent: expected 'zero', 'nan' or 'skip', got {absent!r}")

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU of each class weighted by its share of the true pixels."""
        return float(_ratio(np.nansum(self.iou * self.counts.sum(1)), self.pixels))


def _ratio(top: np.ndarray | int, bottom: np.ndarray | int) -> np.ndarray:
    """Divide; NaN where the divisor is 0."""
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)


def _mean(values: np.ndarray) -> float:
    """Return the mean, NaN of nothing."""
    return float(values.mean()) if values.size else float("nan")


def trimap_band(truth: np.ndarray, width: int, ignore: int = 255) -> np.ndarray:
    """Return the authors' band of `width` pixels along the void contours.

    Void is dilated by a square of side ``2 width + 1``, and void itself is taken out.

    Parameters
    ----------
    truth : (H, W) uint8
    width : int
        1 to 40 in the paper's Fig. 5.

    Returns
    -------
    (H, W) bool
    """
    import cv2

    if width < 1:
        raise ArgumentError(f"width: expected at least 1 pixel, got {width}")
    void = (np.asarray(truth) == ignore).astype(np.uint8)
    grown = cv2.dilate(void, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    return (grown > 0) & (void == 0)


def boundary_distance(truth: np.ndarray, ignore: int = 255) -> np.ndarray:
    """Return the distance of each pixel to the nearest border.

    A pixel is on the border when it is void, or when one of its four neighbours is of another class
    that is not void.

    Parameters
    ----------
    truth : (H, W) uint8

    Returns
    -------
    (H, W) float32
        Exact Euclidean distance in pixels, 0 on the border, inf where there is no border at all. A
        band of width w is ``(distance <= w) & (truth != ignore)``.
    """
    import cv2

    truth = np.asarray(truth)
    void = truth == ignore
    border = void.copy()
    for axis in (0, 1):
        first = [slice(None)] * 2
        second = [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(first), tuple(second)
        differs = (truth[a] != truth[b]) & ~void[a] & ~void[b]
        border[a] |= differs
        border[b] |= differs
    if not border.any():
        return np.full(truth.shape, np.inf, np.float32)
    return cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def void_distance(truth: np.ndarray, ignore: int = 255) -> np.ndarray:
    """Return the distance of each pixel to the nearest void one, the larger of the two axes' (chessboard).

    ``(distance <= w) & (truth != ignore)`` is `trimap_band` of width w: a dilation by a square of side
    2w + 1 reaches exactly the pixels at a chessboard distance of at most w.

    Parameters
    ----------
    truth : (H, W) uint8

    Returns
    -------
    (H, W) float32
        In pixels, 0 on void, inf where there is no void at all.
    """
    import cv2

    void = np.asarray(truth) == ignore
    if not void.any():
        return np.full(void.shape, np.inf, np.float32)
    return cv2.distanceTransform((~void).astype(np.uint8), cv2.DIST_C, 3)


class Bands:
    """Confusion matrices in bands of width 1, 2, 3, … along borders, counted in one pass.

    Parameters
    ----------
    classes : int
    widest : int
        Width of the widest band, in pixels; 40 in Fig. 5 of the paper.
    ignore : int

    Attributes
    ----------
    rings : (widest, classes, classes) int64
        Counts of the pixels that a band has and the next narrower one has not.
    """

    def __init__(self, classes: int = 21, widest: int = 40, ignore: int = 255) -> None:
        if widest < 1:
            raise ArgumentError(f"widest: expected at least 1 pixel, got {widest}")
        self.classes, self.widest, self.ignore = classes, widest, ignore
        self.rings = np.zeros((widest, classes, classes), np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray, distance: np.ndarray) -> None:
        """Add the pixels of one image whose labels a `ConfusionMatrix` has accepted.

        Parameters
        ----------
        truth, prediction : (H, W) integers
        distance : (H, W) float32
            Of `boundary_distance` or `void_distance`.
        """
        counted = (truth != self.ignore) & (distance <= self.widest)
        ring = np.ceil(np.maximum(distance[counted], 1)).astype(np.int64) - 1
        flat = (ring * self.classes + truth[counted]) * self.classes + prediction[counted]
        self.rings += np.bincount(flat, minlength=self.rings.size).reshape(self.rings.shape)

    def __iadd__(self, other: Bands) -> Bands:
        """Add the counts of `other`."""
        self.rings += other.rings
        return self

    def matrices(self) -> list[ConfusionMatrix]:
        """Return the matrix of each band, the narrowest first."""
        found = []
        for counts in self.rings.cumsum(0):
            matrix = ConfusionMatrix(self.classes, self.ignore)
            matrix.counts = counts
            found.append(matrix)
        return found
