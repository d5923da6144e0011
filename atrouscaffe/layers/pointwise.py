"""What layers share that map each value by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Context, Layer, Shape
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["Pointwise", "PointwiseByInput"]


class Pointwise(Layer):
    """One bottom, one top of its shape, in place if wanted.

    Subclasses give `apply` and, where the output decides the gradient, `apply_grad`; others write
    their own forward and backward.
    """

    in_place = True
    backward_reads = ("top",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        return [bottoms[0]]

    def apply(self, xp: Any, x: Any, y: Any) -> None:
        """Write the output of the piece `x` into `y`, which may be `x`."""
        raise TypeError(f"{type(self).__name__}: apply is not defined")

    def apply_grad(self, xp: Any, y: Any, dy: Any, dx: Any) -> None:
        """Write the input's gradient into `dx`, which may be `dy`, from the output and its gradient."""
        raise TypeError(f"{type(self).__name__}: apply_grad is not defined")

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map all values."""
        spread(ctx.xp, self.apply, bottom[0].array, top[0].array)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map all gradients."""
        if ctx.propagate[0]:
            spread(ctx.xp, self.apply_grad, top[0].array, top[0].grad, bottom[0].grad)


class PointwiseByInput(Pointwise):
    """A `Pointwise` whose gradient needs the input, of which a copy is kept where the layer works in place.

    Subclasses give `apply` and `apply_grad_by`.
    """

    backward_reads = ("bottom", "top")

    def apply_grad_by(self, xp: Any, x: Any, y: Any, dy: Any, dx: Any) -> None:
        """Write the input's gradient into `dx`, which may be `dy`, from input, output and the output's gradient."""
        raise TypeError(f"{type(self).__name__}: apply_grad_by is not defined")

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map all values; in place a copy of x is kept."""
        if ctx.keeps and bottom[0] is top[0]:
            ctx.saved["input"] = bottom[0].array.copy()
        super().forward(ctx, bottom, top, params)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Map all gradients."""
        if ctx.propagate[0]:
            x = ctx.saved["input"] if bottom[0] is top[0] else bottom[0].array
            spread(ctx.xp, self.apply_grad_by, x, top[0].array, top[0].grad, bottom[0].grad)
