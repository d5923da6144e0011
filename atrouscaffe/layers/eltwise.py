"""Eltwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.layers.tail import ACTIVATION, AFFINE, IDENTITY, SUM
from atrouscaffe.ops.channels import three_axes
from atrouscaffe.ops.elementwise import spread
from atrouscaffe.runtime.blob import Blob

__all__ = ["Eltwise"]


@register
class Eltwise(Layer):
    """PROD, SUM (with coefficients) or MAX of bottoms of one shape (``eltwise_layer.cpp``).

    Where several bottoms share the maximum, the original's order of comparisons decides: of the
    first two the second, and a later one only if it is larger.
    """

    type = "Eltwise"
    options = "eltwise_param"
    bottoms = (2, None)

    def setup(self) -> None:
        """Check the coefficients."""
        self.operation: str = self.p.operation
        count, coefficients = len(self.spec.bottoms), tuple(self.p.coeff)
        if coefficients and self.operation != "SUM":
            raise LayerError(f"eltwise_param.coeff: expected none with operation {self.operation}, "
                             f"got {len(coefficients)}")
        if coefficients and len(coefficients) != count:
            raise LayerError(f"eltwise_param.coeff: expected one for each of the {count} bottoms, "
                             f"got {len(coefficients)}")
        self.coefficients = coefficients or (1.0,) * count
        if self.operation == "SUM":
            self.backward_reads = ()
        elif self.operation == "MAX" or self.p.stable_prod_grad:
            self.backward_reads = ("bottom",)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape that all bottoms have."""
        for i, shape in enumerate(bottoms[1:], 1):
            self.want_same(bottoms[0], shape, f"bottom[{i}]")
        return [bottoms[0]]

    @property
    def _plain(self) -> bool:
        return self.operation == "SUM" and self.coefficients == (1.0, 1.0)

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Another layer may add two bottoms."""
        return SUM if self._plain else ""

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return what can follow a plain sum in one pass."""
        return (AFFINE, ACTIVATION, IDENTITY) if self._plain and len(bottoms[0]) > 1 else ()

    def _sum(self, xp: Any, *pieces: Any) -> None:
        *inputs, y = pieces
        first, second = self.coefficients[:2]
        if first == 1 and second == 1:
            xp.add(inputs[0], inputs[1], out=y)
        elif first == 1 and second == -1:
            xp.subtract(inputs[0], inputs[1], out=y)
        else:
            term = inputs[1] * second
            xp.multiply(inputs[0], first, out=y)
            y += term
        for x, coefficient in zip(inputs[2:], self.coefficients[2:]):
            y += x if coefficient == 1 else x * coefficient

    def _product(self, xp: Any, *pieces: Any) -> None:
        *inputs, y = pieces
        xp.multiply(inputs[0], inputs[1], out=y)
        for x in inputs[2:]:
            y *= x

    def _maximum(self, xp: Any, *pieces: Any) -> None:
        *inputs, y = pieces
        xp.maximum(inputs[0], inputs[1], out=y)
        for x in inputs[2:]:
            xp.maximum(y, x, out=y)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Combine all bottoms."""
        if ctx.tail is not None:
            x, base, y = (three_axes(blob.array, 1, 2) for blob in (*bottom, top[0]))
            ctx.tail.apply(x, y, base=base)
            return
        kernel = {"SUM": self._sum, "PROD": self._product, "MAX": self._maximum}[self.operation]
        spread(ctx.xp, kernel, *(blob.array for blob in bottom), top[0].array)

    def _product_grad(self, index: int, stable: bool) -> Any:
        """Return the kernel for bottom `index`: the other factors' product, or y / x."""

        def kernel(xp: Any, *pieces: Any) -> None:
            *inputs, dy, dx = pieces
            if stable:
                others = [x for i, x in enumerate(inputs) if i != index]
                xp.multiply(dy, others[0], out=dx)
                for x in others[1:]:
                    dx *= x
            else:
                y, x = inputs
                xp.divide(y, x, out=dx)
                dx *= dy

        return kernel

    def _maximum_grad(self, index: int) -> Any:
        """Return the kernel for bottom `index`: dy where it was chosen."""

        def kernel(xp: Any, *pieces: Any) -> None:
            *inputs, dy, dx = pieces
            best = xp.maximum(inputs[0], inputs[1])
            first = inputs[0] > inputs[1]
            chosen = first if index == 0 else ~first if index == 1 else None
            for i, x in enumerate(inputs[2:], 2):
                larger = x > best
                if i == index:
                    chosen = larger
                elif chosen is not None:
                    chosen &= ~larger
                xp.maximum(best, x, out=best)
            xp.multiply(dy, chosen, out=dx)

        return kernel

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Send the gradient to each bottom that wants one."""
        dy = top[0].grad
        inputs = [blob.array for blob in bottom] if self.backward_reads else []
        for i, blob in enumerate(bottom):
            if not ctx.propagate[i]:
                continue
            if self.operation == "SUM":
                coefficient = self.coefficients[i]
                spread(ctx.xp, lambda xp, dy, dx, c=coefficient: xp.multiply(dy, c, out=dx), dy, blob.grad)
            elif self.operation == "MAX":
                spread(ctx.xp, self._maximum_grad(i), *inputs, dy, blob.grad)
            elif self.p.stable_prod_grad:
                spread(ctx.xp, self._product_grad(i, True), *inputs, dy, blob.grad)
            else:
                spread(ctx.xp, self._product_grad(i, False), top[0].array, inputs[i], dy, blob.grad)
