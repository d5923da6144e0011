"""AdaptiveBiasChannel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.labels import image_labels
from atrouscaffe.runtime.blob import Blob

__all__ = ["AdaptiveBiasChannel"]

MOST_ITERATIONS = 1000
"""The forks' nets take 5; a forged number must not keep a processor for days."""


@register
class AdaptiveBiasChannel(Layer):
    """Raises the scores of an image's labels until each wins a given portion of the pixels.

    The E-step of EM-Adapt (Papandreou et al., 2015; the forks' ``adaptive_bias_channel_layer.cpp``).
    Bottoms: scores (N, C, H, W) and lists of labels (N, max_labels, 1, 1) with -1 as filler; images
    without labels are copied. No gradient, in the original either.

    The order of the foreground labels is shuffled in each of num_iter rounds, by this layer's own
    random stream, so that a seeded run can be repeated. A portion of 1 reads behind the pixels in
    the original; here it takes the last of them.
    """

    type = "AdaptiveBiasChannel"
    options = "adaptive_bias_channel_param"
    bottoms = (2, 2)
    in_place = True
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check the options."""
        if not 1 <= self.p.num_iter <= MOST_ITERATIONS:
            raise LayerError(f"adaptive_bias_channel_param.num_iter: expected 1 to {MOST_ITERATIONS}, "
                             f"got {self.p.num_iter}")
        if self.p.margin_others < 0:
            raise LayerError("adaptive_bias_channel_param.margin_others: expected at least 0, "
                             f"got {self.p.margin_others:g}")
        for name in ("bg_portion", "fg_portion"):
            if not 0 <= getattr(self.p, name) <= 1:
                raise LayerError(f"adaptive_bias_channel_param.{name}: expected 0 to 1, got {getattr(self.p, name):g}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the scores' shape."""
        self.want_rank(bottoms[0], 4)
        if 0 in bottoms[0]:
            raise ShapeError(f"bottom[0]: expected at least one value, got shape {bottoms[0]}")
        self.want_same((bottoms[0][0], *bottoms[1][1:2], 1, 1), bottoms[1], "bottom[1]")
        return [bottoms[0]]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the biased scores."""
        lists, biased = image_labels(bottom[1].host(), bottom[0].shape[1]), top[0].data
        if bottom[0] is not top[0]:
            biased[...] = bottom[0].host()
        for scores, labels in zip(biased, lists):
            if labels:
                self._bias(scores.reshape(len(scores), -1), sorted(labels), ctx.rng)

    def _bias(self, scores: np.ndarray, labels: list[int], rng: np.random.Generator) -> None:
        """Bias one image, (C, H W), in place."""
        if self.p.suppress_others:
            lowest = scores[labels].min(axis=0)
            for channel in sorted(set(range(len(scores))) - set(labels)):
                above = scores[channel] > lowest
                scores[channel][above] = lowest[above] - scores.dtype.type(self.p.margin_others)
        highest = scores[labels].max(axis=0)
        mean_before = highest.mean(dtype=np.float64)
        first = 1 if labels[0] == 0 else 0  # the background's turn is always the first
        for _ in range(self.p.num_iter):
            order = labels[:first] + [labels[first + i] for i in rng.permutation(len(labels) - first)]
            for label in order:
                scores[label] += self._rise(highest - scores[label], label)
                np.maximum(highest, scores[label], out=highest)
        scores += scores.dtype.type(mean_before - highest.mean(dtype=np.float64))

    def _rise(self, gap: np.ndarray, label: int) -> float:
        """Return the portion-th smallest gap: what lets `label` win that portion of the pixels."""
        portion = self.p.bg_portion if label == 0 else self.p.fg_portion
        nth = min(int(np.float32(portion) * np.float32(gap.size)), gap.size - 1)  # in float32, as the original
        return np.partition(gap, nth)[nth]

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
