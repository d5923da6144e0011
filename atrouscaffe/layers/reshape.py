"""Reshape: other sizes for the same values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Reshape"]


@register
class Reshape(Layer):
    """Replace `num_axes` axes from `axis` on by ``shape``: 0 copies a size, one -1 is what remains.

    ``reshape_param``: shape, axis (negative: behind the last, counted from the end), num_axes (-1:
    all). Source: ``reshape_layer.cpp``.
    """

    type = "Reshape"
    options = "reshape_param"
    same_values = True
    backward_reads = ()

    def setup(self) -> None:
        """Check the sizes."""
        dims = tuple(self.p.shape.dim)
        if dims.count(-1) > 1 or any(d < -1 for d in dims):
            raise LayerError(f"shape: expected sizes of at least 0 and at most one -1, got {dims}")
        if self.p.num_axes < -1:
            raise LayerError(f"num_axes: expected -1 or more, got {self.p.num_axes}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Fill in zeros and -1."""
        shape, rank, dims = bottoms[0], len(bottoms[0]), list(self.p.shape.dim)
        begin = self.p.axis if self.p.axis >= 0 else rank + self.p.axis + 1
        if not 0 <= begin <= rank:
            raise LayerError(f"axis: expected {-rank - 1} to {rank} for a bottom with {rank} axes, got {self.p.axis}")
        end = rank if self.p.num_axes == -1 else begin + self.p.num_axes
        if end > rank:
            raise LayerError(f"num_axes: expected at most {rank - begin} from axis {begin} of shape {shape}, got "
                             f"{self.p.num_axes}")
        for i, d in enumerate(dims):
            if d == 0:
                if begin + i >= rank:
                    raise LayerError(f"shape: expected a size at place {i}, got 0, but shape {shape} has no axis "
                                     f"{begin + i} to copy from")
                dims[i] = shape[begin + i]
        if -1 in dims:
            known = math.prod(d for d in dims if d != -1) * math.prod(shape[:begin]) * math.prod(shape[end:])
            total = math.prod(shape)
            if not known or total % known:
                raise ShapeError(f"shape: expected sizes that divide {total} (bottom {shape}), got {tuple(dims)}")
            dims[dims.index(-1)] = total // known
        top = (*shape[:begin], *dims, *shape[end:])
        self.want_count(shape, top, "shape")
        return [top]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        if not any(ctx.placed):
            top[0].array[...] = bottom[0].array.reshape(top[0].shape)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back."""
        bottom[0].grad[...] = top[0].grad.reshape(bottom[0].shape)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Pixels, as long as height and width are what they were."""
        kept = len(bottoms[0]) == 4 and tuple(bottoms[0][2:]) == tuple(tops[0][-2:])
        return (Reach(), Reach()) if kept else (GLOBAL, GLOBAL)
