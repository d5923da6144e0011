"""Launches of ``kernels/interp.cu``: see `atrouscaffe.ops.interp`."""

from __future__ import annotations

from typing import Any

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch

__all__ = ["resize", "resize_adjoint"]

PLANES = 4
"""Planes of which one thread takes a pixel; as in the kernel."""


def resize(x: Any, y: Any, crop: tuple[int, int]) -> None:
    """Write `x`, cropped, resized to the shape of `y`, another one."""
    planes, (height, width), (out_h, out_w) = x.shape[0] * x.shape[1], x.shape[2:], y.shape[2:]
    count = -(-planes // PLANES) * out_h * out_w
    launch("interp", "resize", count,
           (x, y, count, planes, height, width, height - sum(crop), width - sum(crop), crop[0], out_h, out_w),
           real=x.dtype)


def resize_adjoint(dy: Any, dx: Any, crop: tuple[int, int]) -> None:
    """Overwrite dx with the adjoint of `resize`, columns first, then rows."""
    planes, (height, width), (out_h, out_w) = dx.shape[0] * dx.shape[1], dx.shape[2:], dy.shape[2:]
    mixed = module_of(dx).empty((planes, out_h, width), dx.dtype)
    launch("interp", "resize_adjoint", mixed.size,
           (dy, mixed, mixed.size, width, width - sum(crop), crop[0], out_w, 1), real=dx.dtype)
    launch("interp", "resize_adjoint", dx.size,
           (mixed, dx, dx.size, height, height - sum(crop), crop[0], out_h, width), real=dx.dtype)
