"""Resizing as scikit-image and SciPy did it for pycaffe, in NumPy.

``caffe.io.resize_image`` used scikit-image's ``resize(order=1, mode='constant')`` of its day for pictures with
one or three channels: pixel centres at half steps, no smoothing before shrinking, and beyond the border
the value 0 (of the picture scaled to [0, 1]), so that enlarging darkens the outermost pixels. Other
numbers of channels went through SciPy's ``zoom``, which lays corner on corner.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError, DependencyError

__all__ = ["resize", "zoom"]


def _centres(size: int, out: int) -> np.ndarray:
    """Positions in a row of `size` pixels at which `out` pixels read, centre on centre."""
    return (np.arange(out) + 0.5) * (size / out) - 0.5


def _corners(size: int, out: int) -> np.ndarray:
    """Positions at which `out` pixels read, first on first and last on last."""
    return np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)


def _taps(at: np.ndarray, order: int, size: int, zero: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (index, weight) of each tap; with `zero`, taps outside weigh nothing, else they are clamped."""
    if order == 0:
        taps = [(np.floor(at + 0.5).astype(int), np.ones(len(at)))]
    else:
        low = np.floor(at).astype(int)
        taps = [(low, low + 1 - at), (low + 1, at - low)]
    if zero:
        taps = [(index, np.where((index >= 0) & (index < size), weight, 0.0)) for index, weight in taps]
    return [(index.clip(0, size - 1), weight) for index, weight in taps]


def _along(image: np.ndarray, axis: int, taps: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    shape = [1] * image.ndim
    shape[axis] = -1
    return sum(image.take(index, axis) * weight.reshape(shape) for index, weight in taps)


def _splines(image: np.ndarray, shape: tuple[int, int], order: int, **mode: Any) -> np.ndarray:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise DependencyError(f"interpolation of order {order} needs SciPy (pip install scipy); orders 0 and 1 do "
                              "not") from error
    factors = (shape[0] / image.shape[0], shape[1] / image.shape[1], 1)
    return ndimage.zoom(image, factors, order=order, **mode)


def _check(image: np.ndarray, new_dims: Any, order: int) -> tuple[int, int]:
    shape = (int(new_dims[0]), int(new_dims[1]))
    if image.ndim != 3 or 0 in image.shape or min(shape) < 1:
        raise ArgumentError(f"resize: expected an (H, W, K) array and two sizes of at least 1, got shape {image.shape} "
                            f"and {tuple(new_dims)}")
    if not 0 <= order <= 5:
        raise ArgumentError(f"interp_order: expected 0 to 5, got {order}")
    return shape


def resize(image: np.ndarray, new_dims: Any, order: int = 1) -> np.ndarray:
    """Resize (H, W, K) centre on centre, with 0 beyond the border; nothing leaves the picture's own range.

    Parameters
    ----------
    image : (H, W, K) array
    new_dims : (height, width)
    order : int
        0 takes the nearest pixel, 1 is linear; 2 to 5 are splines and need SciPy.

    Returns
    -------
    (height, width, K) float64
    """
    shape = _check(image, new_dims, order)
    image = np.asarray(image, np.float64)
    low, high = image.min(), image.max()
    if order > 1:
        image = _splines(image, shape, order, mode="grid-constant", grid_mode=True)
    else:
        for axis, out in enumerate(shape):
            size = image.shape[axis]
            image = _along(image, axis, _taps(_centres(size, out), order, size, zero=True))
    return image.clip(low, high)


def zoom(image: np.ndarray, new_dims: Any, order: int = 1) -> np.ndarray:
    """Resize (H, W, K) corner on corner; parameters as `resize`."""
    shape = _check(image, new_dims, order)
    image = np.asarray(image, np.float64)
    if order > 1:
        return _splines(image, shape, order, mode="constant")
    for axis, out in enumerate(shape):
        size = image.shape[axis]
        image = _along(image, axis, _taps(_corners(size, out), order, size, zero=False))
    return image
