"""Arrays longer than a net's batch, run batch by batch (``forward_all``, ``forward_backward_all`` of pycaffe)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError

__all__ = ["batches", "forward_all", "forward_backward_all"]

Pass = Callable[..., dict[str, np.ndarray]]


def batches(size: int, arrays: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Cut arrays of equal length into batches of `size` rows; the last one is filled up with zeros."""
    total = max((len(array) for array in arrays.values()), default=0)
    for begin in range(0, total, size):
        batch = {}
        for name, array in arrays.items():
            part = np.asarray(array[begin:begin + size])
            fill_up = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
            batch[name] = np.concatenate([part, fill_up])
        yield batch


def _length(arrays: Mapping[str, Any], what: str) -> int:
    total = {len(array) for array in arrays.values()}
    if len(total) != 1:
        raise ArgumentError(f"{what}: expected arrays of equal length, at least one, got {sorted(total)}")
    return total.pop()


def _join(parts: Mapping[str, list[np.ndarray]], total: int) -> dict[str, np.ndarray]:
    """Join the batches; a number for the whole batch, such as a loss, is kept once a batch."""
    return {name: np.concatenate(arrays)[:total] for name, arrays in parts.items()}


def _collect(parts: dict[str, list[np.ndarray]], found: Mapping[str, np.ndarray]) -> None:
    for name, array in found.items():
        parts.setdefault(name, []).append(np.atleast_1d(array).copy())


def forward_all(forward: Pass, size: int, blobs: Sequence[str] | None,
                inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Run `forward` over all rows of `inputs` and join what it returns."""
    total = _length(inputs, "forward_all")
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches(size, inputs):
        _collect(parts, forward(blobs=blobs, **batch))
    return _join(parts, total)


def forward_backward_all(forward: Pass, backward: Pass, size: int, blobs: Sequence[str] | None,
                         diffs: Sequence[str] | None, inputs: Mapping[str, Any],
                         tops: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run both passes over all rows; where there are none of `inputs` or `tops`, what the blobs hold counts."""
    total = _length({**inputs, **tops}, "forward_backward_all")
    outs: dict[str, list[np.ndarray]] = {}
    grads: dict[str, list[np.ndarray]] = {}
    nothing: dict[str, Any] = {}
    for batch, top_batch in zip_longest(batches(size, inputs), batches(size, tops), fillvalue=nothing):
        _collect(outs, forward(blobs=blobs, **batch))
        _collect(grads, backward(diffs=diffs, **top_batch))
    return _join(outs, total), _join(grads, total)
