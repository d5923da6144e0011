"""Launches of ``kernels/lrn.cu``: see `atrouscaffe.ops.lrn`."""

from __future__ import annotations

from typing import Any

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch

__all__ = ["lrn_across", "lrn_across_backward"]


def lrn_across(x: Any, y: Any, size: int, alpha: float, beta: float, k: float) -> None:
    """Write the normalised x."""
    launch("lrn", "lrn_across", x.size, (x, y, x.size, *x.shape[1:], size // 2, alpha / size, beta, k), real=x.dtype)


def lrn_across_backward(x: Any, dy: Any, dx: Any, size: int, alpha: float, beta: float, k: float) -> None:
    """Write the gradient; one array of x's size holds what the windows add up."""
    inner = module_of(x).empty(x.shape, x.dtype)
    sizes = (x.size, *x.shape[1:], size // 2)
    launch("lrn", "lrn_across_inner", x.size, (x, dy, dx, inner, *sizes, alpha / size, beta, k), real=x.dtype)
    launch("lrn", "lrn_across_outer", x.size, (x, inner, dx, *sizes, 2 * alpha * beta / size), real=x.dtype)
