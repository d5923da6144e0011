"""BatchNorm of BVLC Caffe: normalisation without scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, POINTWISE, Blueprint, Context, Layer, Reach, Shape, register
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, IDENTITY
from atrouscaffe.ops.channels import (
    affine,
    blend,
    channel_moments,
    channel_sums,
    move_statistics,
    normalizer,
    three_axes,
)
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import TEST, TRAIN

__all__ = ["BatchNorm"]


@register
class BatchNorm(Layer):
    """Subtract each channel's mean and divide by ``sqrt(variance + eps)``.

    ``batch_norm_param``: use_global_stats (default: in TEST), moving_average_fraction, eps,
    update_global_stats (second fork).

    Notes
    -----
    Three blobs: sum of means, sum of variances, and the factor both are divided by (0 counts as no
    statistics: both are taken as 0). They are statistics: forward changes them, no solver does.
    With batch statistics the running sums become ``fraction * old + new``, the variance times
    m/(m-1). update_global_stats: in TRAIN the running sums move although they are used; the second
    fork's code for it divides by another variance than its GPU code and cannot run on a CPU, so the
    plain meaning is kept: normalise with the statistics as they were, then move them.
    Source: ``batch_norm_layer.cpp`` of BVLC.
    """

    type = "BatchNorm"
    options = "batch_norm_param"
    in_place = True
    backward_reads = ()

    def setup(self) -> None:
        """Choose the statistics."""
        self.use_global = self.p.use_global_stats if self.p.has("use_global_stats") else self.env.phase == TEST
        self._moves = bool(self.p.update_global_stats) and self.env.phase == TRAIN
        if not 0 <= self.p.moving_average_fraction <= 1:
            raise LayerError(f"moving_average_fraction: expected 0 to 1, got {self.p.moving_average_fraction:g}")
        if self.p.eps < 0:
            raise LayerError(f"eps: expected at least 0, got {self.p.eps:g}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom."""
        if not bottoms[0]:
            raise ShapeError("bottom[0]: expected at least one axis, got a scalar")
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Mean (C,), variance (C,), factor (1,)."""
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        return [Blueprint(shape, None, name, 0.0, learned=False)
                for shape, name in (((channels,), "mean"), ((channels,), "variance"), ((1,), "factor"))]

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply fixed statistics."""
        return AFFINE if self.use_global and not self._moves and len(bottoms[0]) > 1 else ""

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return what can follow a scale and a shift in one pass."""
        return (AFFINE, ACTIVATION, IDENTITY) if self.kind(bottoms) else ()

    def affine(self, params: Sequence[Blob]) -> tuple[Any, Any]:
        """Return inverse deviations, and means times them."""
        mean, variance, factor = (blob.array for blob in params)
        return normalizer(mean, variance, self.p.eps, factor)

    @staticmethod
    def _view(array: np.ndarray) -> np.ndarray:
        return three_axes(array, 1, 2) if array.ndim > 1 else array.reshape(array.size, 1, 1)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Normalise, and move the running statistics where they are not the ones used."""
        x, y = self._view(bottom[0].array), self._view(top[0].array)
        if ctx.tail is not None:
            ctx.tail.apply(x, y, *self.affine(params))
            return
        batch = None
        if not self.use_global or self._moves:
            batch = channel_moments(x)
        mean, variance, factor = (blob.array for blob in params)
        if self.use_global or batch is None:
            inverse, shift = normalizer(mean, variance, self.p.eps, factor)
        else:
            inverse, shift = normalizer(batch[0], batch[1], self.p.eps)
        if batch is not None:
            move_statistics(mean, variance, factor, batch, self.p.moving_average_fraction, x.shape[0] * x.shape[2])
        affine(x, inverse, shift, y)
        if ctx.keeps:
            ctx.saved["inverse"] = inverse
            if not self.use_global:
                ctx.saved["normed"] = y.copy()  # layers behind may work in place

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """``(dy - mean(dy) - y mean(dy y)) / sqrt(variance + eps)``; with fixed statistics only the division."""
        dy, dx = self._view(top[0].grad), self._view(bottom[0].grad)
        inverse = ctx.saved["inverse"]
        if self.use_global:
            affine(dy, inverse, None, dx)
            return
        normed, count = ctx.saved["normed"], dy.shape[0] * dy.shape[2]
        mean = (channel_sums(dy) / count).astype(dy.dtype)
        slope = (channel_sums(dy, normed) / count).astype(dy.dtype)
        blend(normed, -slope * inverse, dy, inverse, -mean * inverse, dx)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel; every pixel where the batch's own statistics are used."""
        return (POINTWISE, POINTWISE) if self.use_global else (GLOBAL, GLOBAL)
