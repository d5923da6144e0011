"""ArgMax."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, POINTWISE, Context, Layer, Reach, Shape, register
from atrouscaffe.ops.argmax import top_channels
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.runtime.blob import Blob

__all__ = ["ArgMax"]


@register
class ArgMax(Layer):
    """Indices of the top_k largest values; of equal values the larger index comes first (``argmax_layer.cpp``).

    ======================= ======================================= ==============================
    form                    runs over                               top, with out_max_val
    ======================= ======================================= ==============================
    v1                      channels, at each pixel                 (N, k, H, W), (N, 2k, H, W)
    with axis               that axis                               k at that axis; values instead
    without axis (v2, bvlc) all of an image, C H W                  (N, 1, k, 1), (N, 2, k, 1)
    ======================= ======================================= ==============================
    """

    type = "ArgMax"
    options = "argmax_param"
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check top_k and choose the form."""
        self.k: int = self.p.top_k
        self.values: bool = self.p.out_max_val
        if self.k < 1:
            raise LayerError(f"argmax_param.top_k: expected at least 1, got {self.k}")
        self.per_pixel = self.env.dialect == "v1" and not self.p.has("axis")

    def _split(self, shape: Shape) -> tuple[int, int, int]:
        """View the bottom as (outer, what it runs over, inner)."""
        if not self.per_pixel and not self.p.has("axis"):
            _, images, size = fold(shape, 0)
            return images, size, 1
        return fold(shape, 1 if self.per_pixel else self.axis(self.p.axis, len(shape), "argmax_param.axis"))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape of the indices."""
        shape = tuple(bottoms[0])
        if len(shape) < 2 and self.per_pixel:
            raise ShapeError(f"bottom[0]: expected at least 2 axes, channels second, got shape {shape}")
        size = self._split(shape)[1]
        if self.k > size:
            raise LayerError(f"argmax_param.top_k: expected at most {size}, got {self.k}")
        if self.per_pixel:
            return [(shape[0], self.k * (2 if self.values else 1), *shape[2:])]
        if self.p.has("axis"):
            axis = self.axis(self.p.axis, len(shape))
            return [(*shape[:axis], self.k, *shape[axis + 1:])]
        return [(shape[0], 2 if self.values else 1, self.k, *(1,) * (len(shape) - 3))]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write indices, values, or both."""
        split = self._split(bottom[0].shape)
        x = bottom[0].array.reshape(split)
        best = top_channels(x, self.k)
        if not self.values:
            top[0].array[...] = best.reshape(top[0].shape)
            return
        chosen = ctx.xp.take_along_axis(x, best, axis=1)
        if self.p.has("axis"):
            top[0].array[...] = chosen.reshape(top[0].shape)
        else:
            out = top[0].array.reshape(split[0], 2, self.k, split[2])
            out[:, 0], out[:, 1] = best, chosen

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel, unless it runs over whole images or an axis of theirs."""
        rank = len(bottoms[0])
        pointwise = self.per_pixel or (self.p.has("axis") and self.axis(self.p.axis, rank) < 2)
        return (POINTWISE, POINTWISE) if pointwise else (GLOBAL, GLOBAL)
