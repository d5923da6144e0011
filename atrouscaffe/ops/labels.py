"""Labels: whole numbers that travel in float blobs, checked before anything is indexed with them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from atrouscaffe.errors import DataError

__all__ = ["LARGEST_LOSS", "image_labels", "read_labels"]

LARGEST_LOSS = -float(np.log(np.finfo(np.float32).tiny))
"""Caffe clamps probabilities at FLT_MIN before it takes their logarithm."""

LUMINANCE = frozenset({14, 15, 19, 33, 34, 37, 38, 52, 53, 57, 72, 75, 76, 89, 90, 94, 108, 109, 112, 113, 127,
                       128, 132, 133, 147, 150, 151, 220})
"""What the colours of VOC's 20 classes and of its void become when a palette PNG is read as grey,
rounded or cut off."""


def _explain(array: np.ndarray, index: int, classes: int, ignore: Collection[int], what: str) -> str:
    """Say which label is wrong, where, and what it looks like."""
    place = np.unravel_index(index, array.shape) if array.ndim else ()
    if array.ndim == 4 and array.shape[1] == 1:
        where = f"image {place[0]}, row {place[2]}, column {place[3]}"
    elif place:
        where = "index (" + ", ".join(str(int(i)) for i in place) + ")"
    else:
        where = "its only place"
    value = float(array.reshape(-1)[index])
    ignored = f" or the ignored {', '.join(str(i) for i in sorted(ignore))}" if ignore else ""
    text = f"{what}: expected whole numbers 0 to {classes - 1}{ignored}, got {value:g} at {where}"
    if not value.is_integer():
        return text + ("; label maps that Interp shrinks at sizes other than a multiple of its factor plus 1 "
                       "(8k+1 for factor 8: 321, 513) mix neighbouring labels")
    if value in LUMINANCE:
        return text + (f"; {value:g} is the grey value of a colour of VOC's palette, so the label image was read as "
                       "a colour picture: palette PNGs must be read by index")
    if value == 255:
        return text + "; 255 usually marks pixels to leave out: give the layer ignore_label 255"
    return text


def read_labels(array: np.ndarray, classes: int, ignore: Collection[int] = (), what: str = "label") -> np.ndarray:
    """Return labels as integers, -1 where they are ignored.

    Parameters
    ----------
    array : float32 or float64
    classes : int
        Labels count from 0 to classes - 1.
    ignore : collection of int
    what : str
        Begins the error.

    Returns
    -------
    int32, shape of `array`

    Raises
    ------
    DataError
        A label that is not whole, or out of range and not ignored; with its value and place.
    """
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.int32)
    bad = labels != array
    bad |= labels < 0
    bad |= labels >= classes
    skipped = np.zeros(array.shape, bool)
    for value in ignore:
        skipped |= array == value
    bad &= ~skipped
    if bad.any():
        raise DataError(_explain(array, int(np.argmax(bad)), classes, ignore, what))
    labels[skipped] = -1
    return labels


def image_labels(array: np.ndarray, classes: int, ignore: Collection[int] = (),
                 what: str = "label list") -> list[list[int]]:
    """Return the labels listed for each image; -1 is a filler and is left out.

    Parameters
    ----------
    array : (N, max_labels, 1, 1) float32 or float64

    Raises
    ------
    DataError
        As in `read_labels`.
    """
    labels = read_labels(array, classes, {-1, *ignore}, what).reshape(array.shape[0], -1)
    return [[int(label) for label in row if label >= 0] for row in labels]
