"""Upsample: unpooling by the mask of a MAX pooling."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Layer, Reach, Shape, register
from atrouscaffe.ops.unpool import unpool, unpool_backward
from atrouscaffe.runtime.blob import Blob

__all__ = ["Upsample"]

MOST = 2**16


@register
class Upsample(Layer):
    """Put each value where the mask says, zeros elsewhere (SegNet, ENet).

    Bottoms: values (N, C, H, W), and a mask of the same shape with indices ``h*W + w`` into the
    output plane. ``upsample_param``: upsample_h and upsample_w, or scale (or scale_h and scale_w)
    with pad_out_h, pad_out_w (one row or column fewer; scale 2 only).

    Notes
    -----
    A later one of two equal indices wins; the gradient of both is the one at that place, as in the
    original. A mask index outside the output is an error. Source: ``upsample_layer.cpp`` of caffe-segnet.
    """

    type = "Upsample"
    options = "upsample_param"
    bottoms = (2, 2)
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check how the size is given."""
        p = self.p
        self.size: tuple[int, int] | None = None
        if p.has("upsample_h") != p.has("upsample_w"):
            raise LayerError("upsample_h, upsample_w: expected both or none, got one")
        if p.has("upsample_h"):
            self.size = (p.upsample_h, p.upsample_w)
            if not all(1 < n <= MOST for n in self.size):
                raise LayerError(f"upsample_h, upsample_w: expected 2 to {MOST}, got {self.size[0]} and {self.size[1]}")
            return
        if p.has("scale_h") != p.has("scale_w") or (p.has("scale") and p.has("scale_h")):
            raise LayerError("scale: expected scale, or scale_h and scale_w")
        self.scale = (p.scale_h, p.scale_w) if p.has("scale_h") else (p.scale, p.scale)
        if not all(1 < n <= MOST for n in self.scale):
            raise LayerError(f"scale: expected 2 to {MOST}, got {self.scale[0]} and {self.scale[1]}")
        for pad, scale, word in zip((p.pad_out_h, p.pad_out_w), self.scale, ("pad_out_h", "pad_out_w")):
            if pad and scale != 2:
                raise LayerError(f"{word}: expected scale 2 beside it, got {scale}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Size as given, or scaled."""
        self.want_rank(bottoms[0], 4)
        self.want_same(bottoms[0], bottoms[1], "bottom[1] (mask)")
        height, width = self.size or (bottoms[0][2] * self.scale[0] - int(self.p.pad_out_h),
                                      bottoms[0][3] * self.scale[1] - int(self.p.pad_out_w))
        if height < 1 or width < 1:
            raise ShapeError(f"output: expected at least one pixel, got {height}x{width}")
        return [(*bottoms[0][:2], height, width)]

    def allows_gradient(self, bottom: int) -> bool:
        """Not the mask."""
        return bottom == 0

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Put values in their places."""
        unpool(bottom[0].array, bottom[1].array, top[0].array)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Fetch from the places."""
        unpool_backward(top[0].grad, bottom[1].array, bottom[0].grad)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """A pixel comes from the window above it, whose place only the mask knows exactly."""
        both = [Reach(up=max(1, -(-top // max(1, below)))) for below, top in zip(bottoms[0][2:], tops[0][2:])]
        return both[0], both[1]
