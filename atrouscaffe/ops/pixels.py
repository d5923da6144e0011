"""Between images and blobs: an image as a net takes it, and labels from scores on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.ops.interp import resize
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["enlarged_labels", "image_to_blob"]

BAND = 1 << 18  # scores in a band of rows: a megabyte of float32


def image_to_blob(image: Any, mean: Any, blob: Any, scale: float = 1.0, reverse: bool = False) -> None:
    """Write ``(image - mean) * scale`` into the upper left of a blob, zeros right of and below it.

    Parameters
    ----------
    image : (H, W, C) uint8
    mean : (C,) array
        In the blob's order of channels and of its type.
    blob : (1, C, height, width) array, written
    scale : float
    reverse : bool
        Turn B, G, R into R, G, B.
    """
    if on_device(blob):
        from atrouscaffe.ops import pixels_cuda

        pixels_cuda.image_to_blob(image, mean, blob, scale, reverse)
        return
    height, width = image.shape[:2]
    planes = image.transpose(2, 0, 1)[:: -1 if reverse else 1]
    blob[:, :, height:] = 0
    blob[:, :, :, width:] = 0
    inside = blob[0, :, :height, :width]
    np.subtract(planes, mean[:, None, None], out=inside)
    if scale != 1:
        inside *= blob.dtype.type(scale)


def enlarged_labels(scores: Any, whole: Sequence[int], labels: Any) -> None:
    """Write the channel of the largest score of each pixel, the first of equals.

    Parameters
    ----------
    scores : (C, score_h, score_w) array
        At most 256 channels.
    whole : (int, int)
        Height and width that the scores are enlarged to, bilinearly with ends aligned.
    labels : (H, W) uint8, written
        The upper left of the enlarged map, at most `whole`.
    """
    if on_device(scores):
        from atrouscaffe.ops import pixels_cuda

        pixels_cuda.enlarged_labels(scores, whole, labels)
        return
    height, width = labels.shape
    if scores.shape[1:] != tuple(whole):
        enlarged = np.empty((1, len(scores), *whole), scores.dtype)
        resize(scores[None], enlarged)
        scores = enlarged[0]
    bands = chunks(height, max(1, BAND // max(1, len(scores) * width)))

    def work(i: int) -> None:
        a, b = bands[i]
        labels[a:b] = scores[:, a:b, :width].argmax(axis=0)

    parallel(work, len(bands))
