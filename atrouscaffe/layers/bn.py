"""BN of SegNet and ENet, and of PSPNet and ICNet: normalisation with scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, POINTWISE, Blueprint, Context, Layer, Reach, Shape, register
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, IDENTITY
from atrouscaffe.ops.channels import affine, blend, channel_moments, channel_sums, normalizer, three_axes
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import TEST

__all__ = ["BN"]

EPS = 1e-9
"""What SegNet's BN adds to variances."""

SEGNET = ("scale_filler", "shift_filler", "bn_mode")
PSPNET = ("slope_filler", "bias_filler", "momentum", "eps", "frozen", "engine")


@register
class BN(Layer):
    """Normalise each channel, then scale and shift it, as SegNet and ENet or as PSPNet and ICNet do.

    ``bn_param`` of SegNet and ENet: scale_filler, shift_filler, bn_mode. Blobs: scale and shift, (1, C, 1, 1) each.
    Of PSPNet and ICNet: slope_filler, bias_filler, momentum, eps, frozen. Blobs: slope, bias, running mean, running
    variance, (1, C, 1, 1) each.

    Notes
    -----
    The fields say which of the two it is; where there are none, nets with layers of DeepLab's second fork have
    PSPNet's and others SegNet's.

    SegNet, LEARN: ``y = scale * (x - mean) / sqrt(variance + 1e-9) + shift`` with the batch's statistics in
    either phase (there are no running ones; released nets have them folded into the blobs). A second and a third
    top receive the batch's mean and biased variance, (1, C, 1, 1) each; no gradient comes back through them.
    INFERENCE: ``y = x * scale + shift``. Source: ``bn_layer.cpp`` of caffe-segnet.

    PSPNet: ``y = slope * (x - mean) / sqrt(variance + eps) + bias``; in TRAIN with the batch's statistics, of which
    the running ones become ``momentum * running + (1 - momentum) * batch`` (biased variance), in TEST with the running
    ones. With ``frozen`` the running ones are used in both phases and nothing learns. They start at 0, the variance of
    a frozen layer at 1. Source: ``bn_layer.cpp`` of PSPNet's Caffe.
    """

    type = "BN"
    options = "bn_param"
    tops = (1, 3)
    in_place = True
    backward_reads = ()

    def setup(self) -> None:
        """Tell the two forks apart, and choose the statistics."""
        old, new = ([word for word in words if self.p.has(word)] for words in (SEGNET, PSPNET))
        if old and new:
            raise LayerError(f"bn_param: expected fields of SegNet's BN or of PSPNet's, got {old[0]} beside {new[0]}")
        self.running = bool(new) or (not old and self.env.dialect == "v2")
        self.by_batch = (not self.p.frozen and self.env.phase != TEST) if self.running else self.p.bn_mode == "LEARN"
        self.eps = self.p.eps if self.running else EPS
        if not 0 <= self.p.momentum <= 1:
            raise LayerError(f"momentum: expected 0 to 1, got {self.p.momentum:g}")
        if not 0 <= self.eps < float("inf"):
            raise LayerError(f"eps: expected a finite number of at least 0, got {self.eps:g}")
        if len(self.spec.tops) > 1 and (self.running or not self.by_batch):
            raise ShapeError("tops: expected 1, since only SegNet's BN in LEARN mode has tops for the batch's mean and "
                             f"variance, got {len(self.spec.tops)}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom; (1, C, 1, 1) for the statistics."""
        self.want_rank(bottoms[0], 4)
        return [bottoms[0], *[(1, bottoms[0][1], 1, 1)] * (len(self.spec.tops) - 1)]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Scale and shift, or slope, bias and the running statistics, each (1, C, 1, 1)."""
        shape = (1, bottoms[0][1], 1, 1)
        if not self.running:
            return [Blueprint(shape, self.p.scale_filler, "scale"), Blueprint(shape, self.p.shift_filler, "shift")]
        learned = not self.p.frozen
        return [Blueprint(shape, self.p.slope_filler, "slope", learned=learned),
                Blueprint(shape, self.p.bias_filler, "bias", learned=learned),
                Blueprint(shape, None, "mean", 0.0, learned=False),
                Blueprint(shape, None, "variance", 0.0 if learned else 1.0, learned=False)]

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may apply it, unless the batch decides."""
        return "" if self.by_batch else AFFINE

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return what can follow a scale and a shift in one pass."""
        return (AFFINE, ACTIVATION, IDENTITY) if self.kind(bottoms) else ()

    def affine(self, params: Sequence[Blob]) -> tuple[Any, Any]:
        """Return scale and shift, with the running statistics in them."""
        scale, shift = params[0].array.ravel(), params[1].array.ravel()
        if not self.running:
            return scale, shift
        inverse, offset = normalizer(params[2].array.ravel(), params[3].array.ravel(), self.eps)
        return scale * inverse, scale * offset + shift

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Normalise, scale and shift; move the running statistics where the batch's are used."""
        x, y = three_axes(bottom[0].array, 1, 2), three_axes(top[0].array, 1, 2)
        scale, shift = params[0].array.ravel(), params[1].array.ravel()
        if ctx.tail is not None:
            ctx.tail.apply(x, y, *self.affine(params))
            return
        if not (self.by_batch or self.running):
            if ctx.keeps:
                ctx.saved["source"] = x.copy() if bottom[0] is top[0] else x
            affine(x, scale, shift, y)
            return
        statistics = channel_moments(x) if self.by_batch else tuple(blob.array.ravel() for blob in params[2:])
        if self.by_batch:
            fraction = self.p.momentum if self.running else 0
            for blob, value in zip((*top[1:], *params[2:]), statistics):
                moved = value.reshape(blob.shape)
                blob.array[...] = blob.array * fraction + moved * (1 - fraction) if fraction else moved
        inverse, offset = normalizer(*statistics, self.eps)
        if not ctx.keeps:
            affine(x, scale * inverse, shift + scale * offset, y)
            return
        affine(x, inverse, offset, y)
        ctx.saved["inverse"] = inverse
        if not self.p.frozen:
            ctx.saved["source"] = y.copy()
        affine(y, scale, shift, y)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Sums into scale and shift, then the normalisation's gradient."""
        dy, scale = three_axes(top[0].grad, 1, 2), params[0].array.ravel()
        dscale = channel_sums(dy, ctx.saved["source"]) if ctx.param_propagate[0] or self.by_batch else None
        dshift = channel_sums(dy) if ctx.param_propagate[1] or self.by_batch else None
        if ctx.param_propagate[0]:
            params[0].grad[...] += dscale.reshape(params[0].shape)  # type: ignore[union-attr]
        if ctx.param_propagate[1]:
            params[1].grad[...] += dshift.reshape(params[1].shape)  # type: ignore[union-attr]
        if not ctx.propagate[0]:
            return
        dx = three_axes(bottom[0].grad, 1, 2)
        factor = scale * ctx.saved["inverse"] if self.by_batch or self.running else scale
        if not self.by_batch:
            affine(dy, factor, None, dx)
            return
        count = dy.shape[0] * dy.shape[2]
        slope, mean = ((total / count).astype(dy.dtype) for total in (dscale, dshift))  # type: ignore[operator]
        blend(ctx.saved["source"], -slope * factor, dy, factor, -mean * factor, dx)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel; every pixel where the batch's own statistics are used."""
        return (GLOBAL, GLOBAL) if self.by_batch else (POINTWISE, POINTWISE)
