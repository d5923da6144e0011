"""BatchNorm of BVLC Caffe, without scale and bias, and of NVIDIA's, which can have them."""

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
    """Subtract each channel's mean and divide by ``sqrt(variance + eps)``; scale and add a bias where wanted.

    ``batch_norm_param``: use_global_stats (default: in TEST), moving_average_fraction, eps,
    update_global_stats (second fork); scale_bias, scale_filler, bias_filler (NVIDIA's).

    Notes
    -----
    Three blobs: sum of means, sum of variances, and the factor both are divided by (0 counts as no
    statistics: both are taken as 0). They are statistics: forward changes them, no solver does.
    With batch statistics the running sums become ``fraction * old + new``, the variance times
    m/(m-1). update_global_stats: in TRAIN the running sums move although they are used; the second
    fork's code for it divides by another variance than its GPU code and cannot run on a CPU, so the
    plain meaning is kept: normalise with the statistics as they were, then move them.

    With ``scale_bias`` or one of the fillers there are two more blobs, scale (from 1) and bias (from 0), (C,) each,
    and ``y = scale * normalised + bias``, as by a Scale layer after it. NVIDIA's Caffe leaves the factor at 1 and
    never divides by it, so its files mean the same here; a file from here is for it once the first two blobs have
    been divided by the factor.
    Source: ``batch_norm_layer.cpp`` of BVLC and of NVIDIA.
    """

    type = "BatchNorm"
    options = "batch_norm_param"
    in_place = True
    backward_reads = ()

    def setup(self) -> None:
        """Choose the statistics, and whether there are scale and bias."""
        self.scaled = self.p.scale_bias or self.p.has("scale_filler") or self.p.has("bias_filler")
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
        """Mean (C,), variance (C,), factor (1,); scale (C,) and bias (C,)."""
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        statistics = [Blueprint(shape, None, name, 0.0, learned=False)
                      for shape, name in (((channels,), "mean"), ((channels,), "variance"), ((1,), "factor"))]
        if not self.scaled:
            return statistics
        return statistics + [
            Blueprint((channels,), getattr(self.p, f"{name}_filler") if self.p.has(f"{name}_filler") else None, name,
                      start) for name, start in (("scale", 1.0), ("bias", 0.0))]

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply fixed statistics."""
        return AFFINE if self.use_global and not self._moves and len(bottoms[0]) > 1 else ""

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return what can follow a scale and a shift in one pass."""
        return (AFFINE, ACTIVATION, IDENTITY) if self.kind(bottoms) else ()

    def affine(self, params: Sequence[Blob]) -> tuple[Any, Any]:
        """Return inverse deviations, and means times them, with scale and bias in them."""
        mean, variance, factor, *rest = (blob.array for blob in params)
        inverse, shift = normalizer(mean, variance, self.p.eps, factor)
        return (inverse * rest[0], shift * rest[0] + rest[1]) if rest else (inverse, shift)

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
        mean, variance, factor = (blob.array for blob in params[:3])
        if self.use_global or batch is None:
            inverse, shift = normalizer(mean, variance, self.p.eps, factor)
        else:
            inverse, shift = normalizer(batch[0], batch[1], self.p.eps)
        if batch is not None:
            move_statistics(mean, variance, factor, batch, self.p.moving_average_fraction, x.shape[0] * x.shape[2])
        affine(x, inverse, shift, y)
        if ctx.keeps:
            ctx.saved["inverse"] = inverse
            if self.scaled or not self.use_global:
                ctx.saved["normed"] = y.copy()  # what follows may work in place
        if self.scaled:
            affine(y, params[3].array, params[4].array, y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """``(dy - mean(dy) - y mean(dy y)) / sqrt(variance + eps)``; with fixed statistics only the division.

        With a scale, dy counts times the scale; sums of ``dy y`` and ``dy`` go into scale and bias.
        """
        dy, inverse = self._view(top[0].grad), ctx.saved["inverse"]
        sums = () if self.use_global and not self.scaled else (channel_sums(dy, ctx.saved["normed"]), channel_sums(dy))
        for i, total in enumerate(sums if self.scaled else (), start=3):
            if ctx.param_propagate[i]:
                params[i].grad[...] += total
        if not ctx.propagate[0]:
            return
        dx = self._view(bottom[0].grad)
        factor = inverse * params[3].array if self.scaled else inverse
        if self.use_global:
            affine(dy, factor, None, dx)
            return
        slope, mean = ((total / (dy.shape[0] * dy.shape[2])).astype(dy.dtype) for total in sums)
        blend(ctx.saved["normed"], -slope * factor, dy, factor, -mean * factor, dx)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel; every pixel where the batch's own statistics are used."""
        return (POINTWISE, POINTWISE) if self.use_global else (GLOBAL, GLOBAL)
