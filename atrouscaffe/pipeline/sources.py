"""Where the scores of an image come from: a net, a net at several scales, files saved earlier."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from atrouscaffe.data.image import resize_image
from atrouscaffe.data.label_sets import class_names
from atrouscaffe.errors import ArgumentError
from atrouscaffe.ops.softmax import softmax
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.pipeline.store import fingerprint, read_scores

__all__ = ["NetSource", "SavedSource", "ScoreSource", "probabilities"]


class ScoreSource(Protocol):
    """What `evaluate` needs: classes, CRF parameters (None: no CRF), settings, scores of an image."""

    names: tuple[str, ...]
    crf: dict[str, Any] | None

    def settings(self) -> dict[str, Any]:
        """Return what the scores depend on, as plain data."""

    def scores(self, ident: str, image: np.ndarray) -> np.ndarray:
        """Return (C, H, W) float32 for a BGR image."""


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the softmax over the classes of (C, H, W) scores."""
    result = np.empty_like(scores)
    flat = (1, scores.shape[0], -1)
    softmax(scores.reshape(flat), result.reshape(flat))
    return result


class NetSource:
    """Scores of a net, at one scale or averaged over several and over the mirrored image.

    Parameters
    ----------
    segmenter : Segmenter
    scales : sequence of float
        The image is resized by each (bilinear), the probabilities are resized back and averaged. (1,)
        alone is the paper's way and changes nothing.
    flip : bool
        Average with the mirrored image's, too.
    """

    def __init__(self, segmenter: Segmenter, scales: Sequence[float] = (1.0,), flip: bool = False) -> None:
        for scale in scales:
            if not 0.1 <= scale <= 8:
                raise ArgumentError(f"scales: expected factors from 0.1 to 8, got {scale:g}")
        if not scales:
            raise ArgumentError("scales: expected at least one factor, got none")
        self.segmenter, self.scales, self.flip = segmenter, tuple(scales), flip
        self.names, self.crf = segmenter.names, segmenter.crf

    def settings(self) -> dict[str, Any]:
        """Return what the scores depend on."""
        return fingerprint(self.segmenter) | {"scales": list(self.scales), "flip": self.flip}

    def scores(self, ident: str, image: np.ndarray) -> np.ndarray:
        """Return the scores of an image; with several passes, the logarithm of the mean probability."""
        if self.scales == (1.0,) and not self.flip:
            return self.segmenter.scores(image)
        height, width = image.shape[:2]
        total, passes = np.zeros((len(self.names), height, width), np.float32), 0
        for scale in self.scales:
            resized = resize_image(image, max(1, round(height * scale)), max(1, round(width * scale)))
            for mirrored in (False, True) if self.flip else (False,):
                given = np.ascontiguousarray(resized[:, ::-1]) if mirrored else resized
                found = probabilities(self.segmenter.scores(given))
                found = found[:, :, ::-1] if mirrored else found
                for channel, plane in zip(total, found):
                    channel += resize_image(np.ascontiguousarray(plane), height, width)
                passes += 1
        return np.log(np.maximum(total / passes, np.finfo(np.float32).tiny))


class SavedSource:
    """Scores from files; see `atrouscaffe.pipeline.store.read_scores`.

    Parameters
    ----------
    folder : path
    classes : int
    crf : dict, optional
        Arguments of `atrouscaffe.crf.densecrf.refine`.
    """

    def __init__(self, folder: str | os.PathLike, classes: int = 21, crf: dict[str, Any] | None = None) -> None:
        self.folder, self.names, self.crf = Path(folder), class_names(classes), crf

    def settings(self) -> dict[str, Any]:
        """Return where the scores come from."""
        return {"scores": str(self.folder.resolve())}

    def scores(self, ident: str, image: np.ndarray) -> np.ndarray:
        """Read the scores of an image."""
        scores = read_scores(self.folder, ident, (image.shape[0], image.shape[1]))
        if scores.shape[0] != len(self.names):
            raise ArgumentError(f"saved scores of {ident}: expected {len(self.names)} classes, got {scores.shape[0]}")
        return scores
