"""Input and Parameter: blobs that come from outside the net, and from what it learns."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Blueprint, Context, Layer, Shape, register
from atrouscaffe.runtime.blob import MAX_ELEMENTS, Blob


def shape_of(message, what: str) -> Shape:
    """Return a BlobShape as a tuple of sizes that a blob can have."""
    shape, count = tuple(int(n) for n in message.dim), 1
    for n in shape:
        count *= n
    if any(n < 0 for n in shape) or count > MAX_ELEMENTS:
        raise ShapeError(f"{what}: expected sizes of at least 0 and at most {MAX_ELEMENTS} elements, got {shape}")
    return shape


@register
class Input(Layer):
    """Blobs that the caller writes (``input_layer.cpp``); one shape for all tops, or one each."""

    type = "Input"
    options = "input_param"
    bottoms = (0, 0)
    tops = (1, None)
    backward_reads = ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shapes of ``input_param``."""
        shapes, tops = self.p.shape, len(self.spec.tops)
        if len(shapes) not in (0, 1, tops):
            raise LayerError(f"input_param: expected one shape, or {tops} (one a top), got {len(shapes)}")
        if not shapes:
            return [()] * tops
        return [shape_of(shapes[i if len(shapes) > 1 else 0], "input_param shape") for i in range(tops)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Leave the tops as the caller wrote them."""

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """There is nothing below."""


@register
class Parameter(Layer):
    """A learnable blob as a top (``parameter_layer.hpp``); it starts at 0."""

    type = "Parameter"
    options = "parameter_param"
    bottoms = (0, 0)
    backward_reads = ()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the parameter's shape."""
        return [shape_of(self.p.shape, "parameter_param shape")]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Return the one parameter."""
        return [Blueprint(shape_of(self.p.shape, "parameter_param shape"), name="parameter")]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Copy the parameter to the top."""
        top[0].array[...] = params[0].array

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Add the top's gradient to the parameter's."""
        if ctx.param_propagate[0]:
            params[0].grad[...] += top[0].grad
