"""IgnoreOverlay."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["IgnoreOverlay"]


@register
class IgnoreOverlay(Layer):
    """Bottom 1, but ignore_label where bottom 0 has it (v1's ``ignore_overlay_layer.cpp``)."""

    type = "IgnoreOverlay"
    options = "ignore_overlay_param"
    bottoms = (2, 2)
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Want an ignore_label."""
        if not self.p.has("ignore_label"):
            raise LayerError("ignore_overlay_param: expected an ignore_label")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape that both have."""
        self.want_same(bottoms[0], bottoms[1], "bottom[1]")
        return [bottoms[0]]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the labels with the overlay."""
        label = self.p.ignore_label
        top[0].array[...] = ctx.xp.where(bottom[0].array == label, label, bottom[1].array)
