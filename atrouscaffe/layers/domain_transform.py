"""DomainTransform and DomainTransformForwardOnly: edge-preserving filtering by a learned edge map."""

from __future__ import annotations

import math
from collections.abc import Sequence

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.domain_transform import DomainTransform as Filter
from atrouscaffe.runtime.blob import Blob

__all__ = ["DomainTransform", "DomainTransformForwardOnly"]

MOST_ITERATIONS = 30


@register
class DomainTransform(Layer):
    """Smooth bottom[0] (N, C, H, W) except across edges of bottom[1] (N, 1, H, W).

    bottom[2] (N, 2, ...) holds each image's real height and width; pixels outside pass unchanged.
    ``domain_transform_param``: num_iter, spatial_sigma, range_sigma, min_weight.

    Notes
    -----
    See `atrouscaffe.ops.domain_transform`. The edge map gets a gradient too.
    Source: ``domain_transform_layer.cpp`` of DeepLab v2.
    """

    type = "DomainTransform"
    options = "domain_transform_param"
    bottoms = (3, 3)
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the options."""
        p = self.p
        if not 1 <= p.num_iter <= MOST_ITERATIONS:
            raise LayerError(f"num_iter: expected 1 to {MOST_ITERATIONS}, got {p.num_iter}")
        if not p.spatial_sigma > 0 or not p.range_sigma > 0:
            raise LayerError(f"spatial_sigma, range_sigma: expected more than 0, got {p.spatial_sigma:g} and "
                             f"{p.range_sigma:g}")
        if not 0 <= p.min_weight < 1:
            raise LayerError(f"min_weight: expected 0 to below 1, got {p.min_weight:g}")
        self.filter = Filter(p.num_iter, p.spatial_sigma, p.range_sigma, p.min_weight)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As bottom[0]."""
        self.want_rank(bottoms[0], 4)
        self.want_same((bottoms[0][0], 1, *bottoms[0][2:]), bottoms[1], "bottom[1] (edges)")
        if math.prod(bottoms[2]) != 2 * bottoms[0][0]:
            raise ShapeError(f"bottom[2]: expected height and width of each of {bottoms[0][0]} images, got shape "
                             f"{bottoms[2]}")
        return [bottoms[0]]

    def allows_gradient(self, bottom: int) -> bool:
        """Not the sizes."""
        return bottom < 2

    @staticmethod
    def _sizes(bottom: Sequence[Blob]) -> list[tuple[int, int]]:
        sizes = []
        height, width = bottom[0].shape[2:]
        for n, (h, w) in enumerate(bottom[2].host().reshape(-1, 2).tolist()):
            if not (0 <= h <= height and 0 <= w <= width):
                raise DataError(f"bottom[2]: expected at most {height}x{width}, got {h:g}x{w:g} for image {n}")
            sizes.append((int(h), int(w)))
        return sizes

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Filter each image; the steps of all passes are kept for backward."""
        x, y, edges = bottom[0].array, top[0].array, bottom[1].array
        y[...] = x
        kept = []
        for n, size in enumerate(self._sizes(bottom)):
            steps = self.filter.steps(x[n]) if ctx.keeps and self.has_backward else None
            self.filter.filter(y[n], edges[n, 0], size, steps)
            kept.append(steps)
        ctx.saved["steps"] = kept

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """The passes in reverse."""
        for n, size in enumerate(self._sizes(bottom)):
            gradients = top[0].grad[n].copy()
            edges = self.filter.adjoint(gradients, bottom[1].array[n, 0], size, ctx.saved["steps"][n])
            if ctx.propagate[0]:
                bottom[0].grad[n] = gradients
            if ctx.propagate[1]:
                bottom[1].grad[n, 0] = edges

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """One a value and pass."""
        return 4 * self.p.num_iter * math.prod(bottoms[0])

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Recursive filters see the whole image."""
        return GLOBAL, GLOBAL


@register
class DomainTransformForwardOnly(DomainTransform):
    """The same filter without room for a backward pass.

    Source: ``domain_transform_forward_only_layer.cpp`` of DeepLab v2.
    """

    type = "DomainTransformForwardOnly"
    has_backward = False
    backward_reads = ()

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Refuse."""
        raise LayerError("type DomainTransformForwardOnly has no backward; use DomainTransform for training")
