"""Interp: bilinear resizing with aligned corners."""

from __future__ import annotations

import math
from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.geometry import interp_size
from atrouscaffe.layers.base import Context, Layer, Reach, Shape, register
from atrouscaffe.ops.interp import resize, resize_adjoint
from atrouscaffe.runtime.blob import Blob

__all__ = ["Interp"]

MOST = 2**16


@register
class Interp(Layer):
    """Resize each plane.

    ``interp_param``: pad_beg and pad_end (at most 0: pixels to cut off), then one of shrink_factor,
    zoom_factor, height and width; the second fork also takes shrink_factor with zoom_factor, and
    goes by the first it finds: shrink alone, zoom alone, height and width, shrink with zoom. The
    first fork refuses more than one.

    Notes
    -----
    Shrink: ``(n-1)//s + 1``; zoom: ``n + (n-1)(z-1)``. Whatever the sizes, one interpolation from
    the cropped input to the output, with float32 coordinates. Source: ``interp_layer.cpp``.
    """

    type = "Interp"
    options = "interp_param"
    backward_reads = ()

    def setup(self) -> None:
        """Choose among the ways to give the size, as the dialect does."""
        p = self.p
        if p.pad_beg > 0 or p.pad_end > 0:
            raise LayerError(f"pad_beg, pad_end: expected at most 0 (they crop), got {p.pad_beg} and {p.pad_end}")
        shrink, zoom, size = p.has("shrink_factor"), p.has("zoom_factor"), p.has("height") and p.has("width")
        given = [word for word, has in (("shrink_factor", shrink), ("zoom_factor", zoom), ("height and width", size))
                 if has]
        if not given or (self.env.dialect == "v1" and len(given) > 1):
            raise LayerError("expected one of shrink_factor, zoom_factor, height and width, got "
                             f"{' with '.join(given) or 'none'}")
        self.shrink, self.zoom, self.height, self.width = 1, 1, 0, 0
        if shrink and not zoom:
            self.shrink = p.shrink_factor
        elif zoom and not shrink:
            self.zoom = p.zoom_factor
        elif size:  # before shrink with zoom, as there
            self.height, self.width = p.height, p.width
        else:
            self.shrink, self.zoom = p.shrink_factor, p.zoom_factor
        sizes = {"shrink_factor": self.shrink, "zoom_factor": self.zoom}
        if size and not (shrink ^ zoom):
            sizes |= {"height": self.height, "width": self.width}
        for word, n in sizes.items():
            if not 1 <= n <= MOST:
                raise LayerError(f"{word}: expected 1 to {MOST}, got {n}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Size along each axis by `interp_size`."""
        self.want_rank(bottoms[0], 4)
        if not bottoms[0][2] or not bottoms[0][3]:
            raise ShapeError(f"bottom[0]: expected at least one pixel, got shape {bottoms[0]}")
        crop = {"pad_beg": self.p.pad_beg, "pad_end": self.p.pad_end, "zoom": self.zoom, "shrink": self.shrink}
        return [(*bottoms[0][:2], interp_size(bottoms[0][2], size=self.height, **crop),
                 interp_size(bottoms[0][3], size=self.width, **crop))]

    @property
    def _crop(self) -> tuple[int, int]:
        return -self.p.pad_beg, -self.p.pad_end

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Interpolate; equal sizes are copied."""
        resize(bottom[0].array, top[0].array, self._crop)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """The adjoint; pixels that were cut off get zero."""
        resize_adjoint(top[0].grad, bottom[0].grad, self._crop)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Four taps an output pixel."""
        return 4 * math.prod(tops[0])

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Two pixels, or one where outputs fall on inputs."""
        both = []
        for axis in (2, 3):
            size, out = bottoms[0][axis] + self.p.pad_beg + self.p.pad_end - 1, tops[0][axis] - 1
            common = math.gcd(size, out) or 1
            stride, up = max(1, size // common), max(1, out // common)
            both.append(Reach(1 if up == 1 else 2, stride, self.p.pad_beg, up))
        return both[0], both[1]
