"""Matrix products of inner product layers on a CUDA device: see `atrouscaffe.ops.inner_product`.

With ``precision="fp16"`` both operands are rounded to half precision; sums are float32 always.
"""

from __future__ import annotations

from typing import Any

from atrouscaffe.ops.conv_cuda import add_bias
from atrouscaffe.ops.half_cuda import half_weight, operand_type, to_half
from atrouscaffe.runtime.cublas import gemm

__all__ = ["inner_product", "inner_product_data_gradient", "inner_product_weight_gradient"]


def inner_product(x: Any, weight: Any, bias: Any, y: Any) -> None:
    """Write ``y = x @ weight.T + bias``; `weight` (N, K) may be a transposed view."""
    x, stored, turned = _operands(x, weight)
    gemm(x, stored, y, trans_b=not turned)
    add_bias(y, bias)


def inner_product_data_gradient(dy: Any, weight: Any, dx: Any) -> None:
    """Write ``dx = dy @ weight``."""
    dy, stored, turned = _operands(dy, weight)
    gemm(dy, stored, dx, trans_b=turned)


def inner_product_weight_gradient(x: Any, dy: Any, dweight: Any) -> None:
    """Add ``dy.T @ x`` to `dweight` (N, K), which may be a transposed view."""
    if operand_type(x) != x.dtype:
        x, dy = to_half(x), to_half(dy)
    if dweight.flags.c_contiguous:
        gemm(dy, x, dweight, trans_a=True, add=True)
    else:
        gemm(x, dy, dweight.T, trans_a=True, add=True)


def _operands(x: Any, weight: Any) -> tuple[Any, Any, bool]:
    """Return `x`, the weight as it is stored, and whether that is transposed; both of the product's type."""
    turned = not weight.flags.c_contiguous
    stored = weight.T if turned else weight
    if operand_type(x) == x.dtype:
        return x, stored, turned
    return to_half(x), half_weight(stored), turned
