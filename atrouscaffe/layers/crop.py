"""Crop: cut bottom[0] to the size of bottom[1]."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["Crop"]


@register
class Crop(Layer):
    """Cut from `axis` on to the sizes of bottom[1].

    ``crop_param``: axis, offset (none: 0; one for all axes, or one each). bottom[1] gets no
    gradient. Source: ``crop_layer.cpp`` of BVLC.
    """

    type = "Crop"
    options = "crop_param"
    bottoms = (2, 2)
    backward_reads = ()

    def _slices(self, bottoms: Sequence[Shape]) -> tuple[slice, ...]:
        shape, other = bottoms
        axis, offsets = self.axis(self.p.axis, len(shape)), tuple(self.p.offset)
        if len(other) != len(shape):
            raise ShapeError(f"bottom[1]: expected {len(shape)} axes, as bottom[0], got shape {other}")
        if len(offsets) > 1 and len(offsets) != len(shape) - axis:
            raise LayerError(f"offset: expected none, one, or {len(shape) - axis} (axis {axis} and behind), got "
                             f"{offsets}")
        slices = [slice(None)] * axis
        for i in range(axis, len(shape)):
            begin = 0 if not offsets else offsets[0] if len(offsets) == 1 else offsets[i - axis]
            if begin + other[i] > shape[i]:
                raise ShapeError(f"offset: expected offset {begin} plus {other[i]} (bottom[1], axis {i}) to fit into "
                                 f"{shape[i]} (bottom[0]), got {begin + other[i]}")
            slices.append(slice(begin, begin + other[i]))
        return tuple(slices)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Sizes of bottom[1] from `axis` on."""
        slices = self._slices(bottoms)
        return [tuple(n if s.start is None else s.stop - s.start for n, s in zip(bottoms[0], slices))]

    def allows_gradient(self, bottom: int) -> bool:
        """Only what is cut."""
        return bottom == 0

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy."""
        top[0].array[...] = bottom[0].array[self._slices([blob.shape for blob in bottom])]

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy back; what was cut off gets zero."""
        bottom[0].grad[...] = 0
        bottom[0].grad[self._slices([blob.shape for blob in bottom])] = top[0].grad

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """One pixel, shifted."""
        begins = [s.start or 0 for s in self._slices(bottoms)[-2:]]
        return Reach(pad=-begins[0]), Reach(pad=-begins[-1])
