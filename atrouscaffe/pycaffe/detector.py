"""Detector: a net that classifies windows of pictures, as R-CNN does.

Source of the context around a window: section "Object proposal transformations" of Girshick et al.,
"Rich feature hierarchies", 2014, and ``python/caffe/detector.py`` of BVLC Caffe.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError, DependencyError
from atrouscaffe.pycaffe import io
from atrouscaffe.pycaffe.classifier import make_transformer
from atrouscaffe.pycaffe.net import Net
from atrouscaffe.spec import TEST

__all__ = ["Detector"]


class Detector(Net):
    """A net with windows of pictures going in.

    Parameters
    ----------
    model_file, pretrained_file : path
    mean, input_scale, raw_scale, channel_swap
        See `atrouscaffe.pycaffe.io.Transformer`.
    context_pad : int, optional
        So many pixels of the net's input on each side show what is around the window.
    """

    def __init__(self, model_file: Any, pretrained_file: Any, mean: Any = None, input_scale: float | None = None,
                 raw_scale: float | None = None, channel_swap: Sequence[int] | None = None,
                 context_pad: int | None = None) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, Sequence[Sequence[float]]]]) -> list[dict[str, Any]]:
        """Classify windows.

        Parameters
        ----------
        images_windows : iterable of (file name, windows)
            Windows are (ymin, xmin, ymax, xmax).

        Returns
        -------
        list of dict
            ``window``, ``prediction`` and ``filename`` of each window.
        """
        found: list[dict[str, Any]] = []
        in_, rows = self.inputs[0], []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                rows.append(self.transformer.preprocess(in_, self.crop(image, window)))
                found.append({"window": window, "prediction": None, "filename": filename})
        if not rows:
            return found
        predictions = self.forward_all(None, **{in_: np.stack(rows)})[self.outputs[0]]
        for detection, prediction in zip(found, predictions):
            detection["prediction"] = prediction
        return found

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """Classify the windows that selective search proposes.

        Raises
        ------
        DependencyError
            The package ``selective_search_ijcv_with_python``, which drives MATLAB, is not there.
        """
        try:
            search = importlib.import_module("selective_search_ijcv_with_python")
        except ImportError as error:
            raise DependencyError("detect_selective_search needs the package selective_search_ijcv_with_python (and "
                                  "MATLAB); give windows of your own to detect_windows") from error
        names = [os.path.abspath(name) for name in image_fnames]
        return self.detect_windows(zip(names, search.get_windows(names, cmd="selective_search_rcnn")))

    def crop(self, im: np.ndarray, window: Sequence[float]) -> np.ndarray:
        """Return a window of a picture, with its context where `context_pad` asks for some.

        Parameters
        ----------
        im : (H, W, K) array
        window : (ymin, xmin, ymax, xmax)
        """
        top, left, bottom, right = (int(n) for n in window)
        cut = im[top:bottom, left:right]
        if cut.size == 0:
            raise ArgumentError(f"crop: the window {tuple(window)} holds no pixel of a picture of {im.shape[:2]}")
        return self._with_context(im, np.asarray(window, float)) if self.context_pad else cut

    def _with_context(self, im: np.ndarray, window: np.ndarray) -> np.ndarray:
        size = int(self.blobs[self.inputs[0]].width)  # nets of this kind have square inputs
        half = (window[2:] - window[:2] + 1) / 2.0
        centre = window[:2] + half
        reach = half * (size / (size - 2.0 * self.context_pad))
        box = np.round(np.concatenate([centre - reach, centre + reach]))
        scale = size / (box[2:] - box[:2] + 1)
        pad = np.round(np.maximum(0, -box[:2]) * scale).astype(int)  # what lies outside the picture
        box = np.clip(box, 0, [*im.shape[:2], *im.shape[:2]]).astype(int)
        shape = np.round((box[2:] - box[:2] + 1) * scale).astype(int)
        shape = np.minimum(shape, size - pad)
        result = np.ones(self.crop_dims, np.float32) * self.crop_mean
        inside = io.resize_image(im[box[0]:box[2], box[1]:box[3]], shape)
        result[pad[0]:pad[0] + shape[0], pad[1]:pad[1] + shape[1]] = inside
        return result

    def configure_crop(self, context_pad: int | None) -> None:
        """Set how much context crops have; the mean, in pixels of the picture, stands where there is none."""
        in_ = self.inputs[0]
        back = np.argsort(self.transformer.transpose[in_])
        self.crop_dims = np.array(self.blobs[in_].data.shape[1:])[back]
        self.context_pad = context_pad or 0
        if not context_pad:
            return
        if 2 * context_pad >= self.blobs[in_].width:
            raise ArgumentError(f"context_pad: expected less than half of the input's width {self.blobs[in_].width}, "
                                f"got {context_pad}")
        mean = self.transformer.mean.get(in_)
        if mean is None:
            self.crop_mean = np.zeros(self.crop_dims, np.float32)
            return
        mean = np.broadcast_to(mean, self.blobs[in_].data.shape[1:]).transpose(back)
        swap = self.transformer.channel_swap.get(in_)
        if swap is not None:
            mean = mean[:, :, np.argsort(swap)]
        self.crop_mean = (mean / self.transformer.raw_scale.get(in_, 1.0)).astype(np.float32)
