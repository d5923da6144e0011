"""Launches of ``kernels/pixels.cu``: see `atrouscaffe.ops.pixels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.runtime.kernels import launch

__all__ = ["enlarged_labels", "image_to_blob"]


def image_to_blob(image: Any, mean: Any, blob: Any, scale: float = 1.0, reverse: bool = False) -> None:
    """Write ``(image - mean) * scale``, and zeros around."""
    height, width, channels = image.shape
    launch("pixels", "image_to_blob", blob.size,
           (image, mean, blob, blob.size, channels, height, width, *blob.shape[2:], scale, reverse), real=blob.dtype)


def enlarged_labels(scores: Any, whole: Sequence[int], labels: Any) -> None:
    """Write the channel of the largest enlarged score; nothing of the enlarged size is stored."""
    launch("pixels", "enlarged_labels", labels.size,
           (scores, labels, labels.size, *scores.shape, *whole, labels.shape[1]), real=scores.dtype)
