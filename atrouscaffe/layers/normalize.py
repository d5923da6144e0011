"""Normalize of ParseNet and SSD: channels divided by their length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, POINTWISE, Blueprint, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.elementwise import over_tiles
from atrouscaffe.runtime.blob import Blob

__all__ = ["Normalize"]


@register
class Normalize(Layer):
    """y = scale x / sqrt(sum of x^2 + eps), the sum over the channels of a pixel, or over the whole item.

    ``norm_param``: across_spatial (default: the whole item), channel_shared (default: one scale for all channels),
    scale_filler (default 1), eps. Blob: scale, () or (C,).

    Notes
    -----
    ParseNet's ``fix_scale: true`` keeps the scale as it is. Source: ``normalize_layer.cpp`` of SSD's Caffe (Liu et
    al., 2015).
    """

    type = "Normalize"
    options = "norm_param"
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check eps."""
        if not 0 <= self.p.eps < float("inf"):
            raise LayerError(f"norm_param.eps: expected a finite number of at least 0, got {self.p.eps:g}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the bottom."""
        if len(bottoms[0]) < 2:
            raise ShapeError(f"bottom[0]: expected at least 2 axes, got shape {tuple(bottoms[0])}")
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """The scale, () or (C,)."""
        shape = () if self.p.channel_shared else (bottoms[0][1],)
        filler = self.p.scale_filler if self.p.has("scale_filler") else None
        fixed = self.p.has("fix_scale") and self.p.fix_scale
        return [Blueprint(shape, filler, "scale", 1.0, learned=not fixed)]

    def _views(self, *arrays: Any) -> list[Any]:
        """See blobs as (items, channels, pixels); as one pixel of all values where the whole item has one length."""
        shape = arrays[0].shape
        return [array.reshape(shape[0], shape[1], math.prod(shape[2:])) for array in arrays]

    def _inverse(self, xp: Any, x: Any) -> Any:
        """Return 1 / length, (items, 1, pixels) or (items, 1, 1)."""
        axes = (1, 2) if self.p.across_spatial else (1,)
        return 1 / xp.sqrt((x * x).sum(axis=axes, keepdims=True) + x.dtype.type(self.p.eps))

    def _tiles(self, xp: Any, shape: Shape, work: Any) -> list[Any]:
        """Call ``work(rows, columns)`` on pieces that hold every value that a length is made of."""
        items, channels, pixels = shape
        if not self.p.across_spatial:
            return over_tiles((items, channels, pixels), work, xp)
        return over_tiles((items, channels * pixels, 1), lambda rows, _: work(rows, slice(None)), xp)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Divide by the length and scale."""
        x, y = self._views(bottom[0].array, top[0].array)
        scale = params[0].array.reshape(1, -1, 1)

        def work(rows: slice, columns: slice) -> None:
            part, out = x[rows, :, columns], y[rows, :, columns]
            ctx.xp.multiply(part, self._inverse(ctx.xp, part), out=out)
            out *= scale

        self._tiles(ctx.xp, x.shape, work)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = (scale dy - x sum(scale dy x) / length^2) / length; sums of ``dy x / length`` into the scale."""
        xp = ctx.xp
        x, dy, dx = self._views(bottom[0].array, top[0].grad, bottom[0].grad)
        scale = params[0].array.reshape(1, -1, 1)
        axes = (1, 2) if self.p.across_spatial else (1,)

        def work(rows: slice, columns: slice) -> Any:
            part, grad = x[rows, :, columns], dy[rows, :, columns]
            inverse = self._inverse(xp, part)
            product = part * grad
            sums = (product * inverse).sum(axis=(0, 2), dtype="float64") if ctx.param_propagate[0] else None
            if ctx.propagate[0]:
                dot = (product * scale).sum(axis=axes, keepdims=True) * inverse * inverse
                dx[rows, :, columns] = (grad * scale - part * dot) * inverse
            return sums

        sums = self._tiles(xp, x.shape, work)
        if ctx.param_propagate[0]:
            total = sum(sums[1:], sums[0]) if sums else 0 * scale.reshape(-1)
            params[0].grad[...] += (total.sum() if self.p.channel_shared else total).astype(x.dtype)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel, or all of the input."""
        return (GLOBAL, GLOBAL) if self.p.across_spatial else (POINTWISE, POINTWISE)
