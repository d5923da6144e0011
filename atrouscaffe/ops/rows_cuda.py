"""Launch of ``kernels/add_rows.cu``: see `atrouscaffe.ops.rows`."""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch

__all__ = ["add_rows"]


def add_rows(target: Any, indices: np.ndarray, source: Any) -> None:
    """Add row i of `source` to row ``indices[i]`` of `target`; rows are sorted by their target on the host."""
    xp = module_of(target)
    order = np.argsort(indices, kind="stable").astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(indices, minlength=len(target)))]).astype(np.int32)
    columns = target.size // max(1, len(target))
    launch("add_rows", "add_rows", target.size,
           (source, xp.asarray(order), xp.asarray(starts), target, target.size, columns), real=target.dtype)
