"""Launch of ``kernels/packed.cu``: see `atrouscaffe.ops.packed`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.geometry import Window
from atrouscaffe.runtime.kernels import launch

__all__ = ["pool"]


def pool(x: Any, y: Any, size: Sequence[int], out: Sequence[int], windows: Sequence[Window], average: bool) -> None:
    """Pool packed x, of a blob of shape `size`, into packed y, of a blob of shape `out`."""
    h, w = windows
    count, chunks = y.size // 8, y.shape[-1] // 8
    launch("packed", "pool_packed", count, (x, y, count, chunks, *size[2:], *out[2:], h.kernel, w.kernel, h.stride,
                                            w.stride, h.pad, w.pad, average))
