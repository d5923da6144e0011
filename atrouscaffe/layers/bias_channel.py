"""BiasChannel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.ops.labels import image_labels, read_labels
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.blob import Blob

__all__ = ["BiasChannel"]


@register
class BiasChannel(Layer):
    """Raises the scores of the classes that are known to be there (the forks' ``bias_channel_layer.cpp``).

    label_type IMAGE: bottom 1 lists each image's labels, (N, max_labels, 1, 1), -1 is a filler; the
    background's channel gets bg_bias and every other listed one fg_bias, at all pixels. PIXEL (v2):
    bottom 1 is a label map (N, 1, H, W); each pixel's class gets fg_bias there, and if bg_bias or
    background_label is given, the background's channel gets bg_bias at every counted pixel and
    nothing more where it is the label.

    The background is background_label. The original ignores it with IMAGE and takes 0; here it
    counts. Gradients pass unchanged.
    """

    type = "BiasChannel"
    options = "bias_channel_param"
    bottoms = (2, 2)
    in_place = True
    backward_reads = ()

    def setup(self) -> None:
        """Check the biases."""
        self.foreground: float = self.p.fg_bias
        self.background: float = self.p.bg_bias
        if self.foreground < 0 or self.background < 0:
            raise LayerError(f"bias_channel_param: expected fg_bias and bg_bias of at least 0, got {self.foreground:g} "
                             f"and {self.background:g}")
        self.ignore = {-1, *(int(label) for label in self.p.ignore_label)}
        self.background_label: int = self.p.background_label
        self.pixelwise = self.p.label_type == "PIXEL"

    def allows_gradient(self, bottom: int) -> bool:
        """Only scores; labels may not."""
        return bottom == 0

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the scores' shape."""
        self.want_rank(bottoms[0], 4)
        n, channels, h, w = bottoms[0]
        if self.pixelwise:
            self.want_same((n, 1, h, w), bottoms[1], "bottom[1]")
        else:
            self.want_same((n, *bottoms[1][1:2], 1, 1), bottoms[1], "bottom[1]")
        if not 0 <= self.background_label < channels:
            raise LayerError(f"bias_channel_param.background_label: expected 0 to {channels - 1}, "
                             f"got {self.background_label}")
        return [bottoms[0]]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add the biases."""
        channels = bottom[0].shape[1]
        out = top[0].array
        if self.pixelwise:
            labels = read_labels(bottom[1].host(), channels, self.ignore)
            out[...] = bottom[0].array
            if on_device(out):
                self._bias_maps(ctx.xp, out, ctx.backend.asarray(labels))
                return
            for n in range(len(out)):
                self._bias_pixels(out[n], labels[n, 0])
            return
        lists = image_labels(bottom[1].host(), channels, self.ignore)
        out[...] = bottom[0].array
        if on_device(out):
            biases = np.zeros((*out.shape[:2], 1, 1), out.dtype)
            self._bias_lists(biases, lists)
            out += ctx.backend.asarray(biases)
        else:
            self._bias_lists(out, lists)

    def _bias_lists(self, scores: np.ndarray, lists: Sequence[Sequence[int]]) -> None:
        """Add the biases of each image's labels to scores (N, C, ...)."""
        for n, listed in enumerate(lists):
            for label in listed:
                scores[n, label] += self.background if label == self.background_label else self.foreground

    def _bias_pixels(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Add the biases of one image, (C, H, W), with its label map, (H, W)."""
        counted = labels >= 0
        raised = counted
        if self.p.has("bg_bias") or self.p.has("background_label"):
            scores[self.background_label][counted] += self.background
            raised = counted & (labels != self.background_label)
        rows, columns = np.nonzero(raised)
        scores[labels[raised], rows, columns] += self.foreground

    def _bias_maps(self, xp: Any, scores: Any, labels: Any) -> None:
        """Add the biases to scores (N, C, H, W) with label maps (N, 1, H, W), both on a device."""
        raised = labels == xp.arange(scores.shape[1]).reshape(-1, 1, 1)
        if self.p.has("bg_bias") or self.p.has("background_label"):
            raised[:, self.background_label] = False
            scores[:, self.background_label] += self.background * (labels[:, 0] >= 0).astype(scores.dtype)
        scores += self.foreground * raised.astype(scores.dtype)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy the gradient."""
        if ctx.propagate[0] and bottom[0] is not top[0]:
            spread(ctx.xp, lambda xp, dy, dx: xp.copyto(dx, dy), top[0].grad, bottom[0].grad)
