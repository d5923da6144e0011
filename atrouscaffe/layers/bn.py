"""BN of SegNet and ENet: normalisation with scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import GLOBAL, POINTWISE, Blueprint, Context, Layer, Reach, Shape, register
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, IDENTITY
from atrouscaffe.ops.channels import affine, blend, channel_moments, channel_sums, normalizer, three_axes
from atrouscaffe.runtime.blob import Blob

__all__ = ["BN"]

EPS = 1e-9


@register
class BN(Layer):
    """Scale and shift each channel, in LEARN mode after normalising it by the batch.

    ``bn_param``: scale_filler, shift_filler, bn_mode. Blobs: scale and shift, (1, C, 1, 1) each.

    Notes
    -----
    LEARN: ``y = scale * (x - mean) / sqrt(variance + 1e-9) + shift`` with the batch's statistics in
    either phase (there are no running ones; released nets have them folded into the blobs).
    INFERENCE: ``y = x * scale + shift``. Source: ``bn_layer.cpp`` of caffe-segnet.
    """

    type = "BN"
    options = "bn_param"
    in_place = True
    backward_reads = ()

    def setup(self) -> None:
        """Choose the mode."""
        self.learn = self.p.bn_mode == "LEARN"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom."""
        self.want_rank(bottoms[0], 4)
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Scale and shift, each (1, C, 1, 1)."""
        shape = (1, bottoms[0][1], 1, 1)
        return [Blueprint(shape, self.p.scale_filler, "scale"), Blueprint(shape, self.p.shift_filler, "shift")]

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply it, unless the batch decides."""
        return AFFINE if not self.learn else ""

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return what can follow a scale and a shift in one pass."""
        return (AFFINE, ACTIVATION, IDENTITY) if self.kind(bottoms) else ()

    def affine(self, params: Sequence[Blob]) -> tuple[Any, Any]:
        """Return scale and shift."""
        return params[0].array.ravel(), params[1].array.ravel()

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Normalise in LEARN mode, then scale and shift."""
        x, y = three_axes(bottom[0].array, 1, 2), three_axes(top[0].array, 1, 2)
        scale, shift = params[0].array.ravel(), params[1].array.ravel()
        if ctx.tail is not None:
            ctx.tail.apply(x, y, scale, shift)
            return
        if self.learn:
            mean, variance = channel_moments(x)
            inverse, offset = normalizer(mean, variance, EPS)
            affine(x, inverse, offset, y)
            if ctx.keeps:
                ctx.saved["inverse"], ctx.saved["source"] = inverse, y.copy()
            affine(y, scale, shift, y)
            return
        if ctx.keeps:
            ctx.saved["source"] = x.copy() if bottom[0] is top[0] else x
        affine(x, scale, shift, y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Sums into scale and shift, then the normalisation's gradient."""
        dy = three_axes(top[0].grad, 1, 2)
        source, scale = ctx.saved["source"], params[0].array.ravel()
        dscale = channel_sums(dy, source) if ctx.param_propagate[0] or self.learn else None
        dshift = channel_sums(dy) if ctx.param_propagate[1] or self.learn else None
        if ctx.param_propagate[0]:
            params[0].grad[...] += dscale.reshape(params[0].shape)  # type: ignore[union-attr]
        if ctx.param_propagate[1]:
            params[1].grad[...] += dshift.reshape(params[1].shape)  # type: ignore[union-attr]
        if not ctx.propagate[0]:
            return
        dx = three_axes(bottom[0].grad, 1, 2)
        if not self.learn:
            affine(dy, scale, None, dx)
            return
        factor, count = scale * ctx.saved["inverse"], dy.shape[0] * dy.shape[2]
        slope, mean = ((total / count).astype(dy.dtype) for total in (dscale, dshift))  # type: ignore[operator]
        blend(source, -slope * factor, dy, factor, -mean * factor, dx)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel; every pixel in LEARN mode."""
        return (GLOBAL, GLOBAL) if self.learn else (POINTWISE, POINTWISE)
