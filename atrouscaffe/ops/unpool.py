"""Unpooling: values go where the mask of a pooling says.

Source: ``upsample_layer.cpp`` of caffe-segnet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.errors import DataError
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import parallel

__all__ = ["unpool", "unpool_backward"]


def _wrong_mask(low: float, high: float, pixels: int) -> DataError:
    """Return the error of a mask whose smallest and largest value are no places."""
    return DataError(f"bottom[1] (mask): expected indices 0 to {pixels - 1}, got {low:g} to {high:g}; the output must "
                     "be as large as the input of the mask's pooling")


def _places(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Return the mask as indices (planes, size), checked."""
    if mask.size and not (mask.min() >= 0 and mask.max() < pixels):  # also false for NaN
        raise _wrong_mask(mask.min(), mask.max(), pixels)
    return mask.reshape(mask.shape[0] * mask.shape[1], -1).astype(np.intp)


def unpool(x: Any, mask: Any, y: Any) -> None:
    """Write each value at its place in y, 0 elsewhere; a later one of two equal places wins.

    Parameters
    ----------
    x, mask : (N, C, H, W) array
        The mask has whole numbers, ``h * out_w + w``.
    y : (N, C, out_h, out_w) array, written

    Raises
    ------
    DataError
        A mask value outside y.
    """
    if on_device(x):
        from atrouscaffe.ops import unpool_cuda

        if not unpool_cuda.unpool(x, mask, y):
            raise _wrong_mask(float(mask.min()), float(mask.max()), y.shape[2] * y.shape[3])
        return
    planes = y.reshape(y.shape[0] * y.shape[1], -1)
    places, values = _places(mask, planes.shape[1]), x.reshape(len(planes), -1)

    def work(p: int) -> None:
        planes[p] = 0
        planes[p, places[p]] = values[p]

    parallel(work, len(planes))


def unpool_backward(dy: Any, mask: Any, dx: Any) -> None:
    """Overwrite dx with dy at the place of each value; shapes and errors as in `unpool`."""
    if on_device(dy):
        from atrouscaffe.ops import unpool_cuda

        unpool_cuda.unpool_backward(dy, mask, dx)
        return
    planes = dy.reshape(dy.shape[0] * dy.shape[1], -1)
    places, gradients = _places(mask, planes.shape[1]), dx.reshape(len(planes), -1)
    parallel(lambda p: np.take(planes[p], places[p], out=gradients[p], mode="clip"), len(planes))
