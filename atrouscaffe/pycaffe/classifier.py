"""Classifier: a net that takes pictures of any size and returns class probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.pycaffe import io
from atrouscaffe.pycaffe.net import Net
from atrouscaffe.spec import TEST

__all__ = ["Classifier", "make_transformer"]


def make_transformer(net: Net, mean: Any = None, input_scale: float | None = None, raw_scale: float | None = None,
                     channel_swap: Sequence[int] | None = None) -> io.Transformer:
    """Return a Transformer for a net's first input that takes (H, W, K) pictures."""
    if not net.inputs:
        raise ArgumentError("expected a net with an input (Input layer or `input:`), got one without; use a deploy net")
    in_ = net.inputs[0]
    transformer = io.Transformer({in_: net.blobs[in_].data.shape})
    transformer.set_transpose(in_, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(in_, mean)
    if input_scale is not None:
        transformer.set_input_scale(in_, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(in_, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(in_, channel_swap)
    return transformer


class Classifier(Net):
    """A net with pictures going in.

    Parameters
    ----------
    model_file, pretrained_file : path
    image_dims : (height, width), optional
        Pictures are resized to this before crops of the input's size are taken; by default the input's size.
    mean, input_scale, raw_scale, channel_swap
        See `atrouscaffe.pycaffe.io.Transformer`.
    device, precision : str, optional
        See `atrouscaffe.net.Net`; by default where `set_mode_cpu` or `set_mode_gpu` says.
    """

    def __init__(self, model_file: Any, pretrained_file: Any, image_dims: Sequence[int] | None = None, mean: Any = None,
                 input_scale: float | None = None, raw_scale: float | None = None,
                 channel_swap: Sequence[int] | None = None, *, device: str | None = None,
                 precision: str = "fp32") -> None:
        super().__init__(model_file, TEST, weights=pretrained_file, device=device, precision=precision)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        self.image_dims = self.crop_dims if image_dims is None or not len(image_dims) else image_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Return class probabilities.

        Parameters
        ----------
        inputs : sequence of (H, W, K) arrays
            As `atrouscaffe.pycaffe.io.load_image` reads them.
        oversample : bool
            Average over corners, centre and their mirrors; else take the centre.

        Returns
        -------
        (N, C) ndarray
        """
        if not len(inputs):
            raise ArgumentError("predict: expected at least one picture")
        pictures = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            pictures = io.oversample(pictures, self.crop_dims)
        else:
            centre = np.array(self.image_dims) / 2.0
            top, left = (int(n) for n in centre - self.crop_dims / 2.0)
            bottom, right = (int(n) for n in centre + self.crop_dims / 2.0)
            pictures = pictures[:, top:bottom, left:right]
        in_ = self.inputs[0]
        rows = np.stack([self.transformer.preprocess(in_, picture) for picture in pictures])
        predictions = self.forward_all(None, **{in_: rows})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(predictions) // 10, 10, -1).mean(1)
        return predictions
