"""The same work on the CPU and on a device, compared array by array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from atrouscaffe.runtime.backend import get_backend, module_of

devices = pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)


def run(device: str, work: Callable[..., Any], arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Return copies of `arrays`, and what `work` returned, after `work` has had them on a device."""
    backend = get_backend(device)
    with backend.active():
        moved = [None if array is None else backend.asarray(array.copy()) for array in arrays]
        result = work(*moved)
        whole = [*moved, *(result if isinstance(result, tuple) else (result,))]
        return [value if isinstance(value, (float, np.ndarray)) else backend.to_numpy(value)
                for value in whole if value is not None]


def compare(device: str, work: Callable[..., Any], *arrays: np.ndarray | None, tolerance: float = 1e-12) -> None:
    """Check that `work` leaves the same values on the CPU and on a device, and there the same bits twice.

    Parameters
    ----------
    device : str
    work : callable
        Takes the arrays, may write to them; returns an array, several, or nothing.
    *arrays : array or None
    tolerance : float
        Relative to the largest finite value; 0 wants equal bits.
    """
    wanted, found, again = run("cpu", work, arrays), run(device, work, arrays), run(device, work, arrays)
    assert len(wanted) == len(found)
    for a, b, c in zip(wanted, found, again):
        assert np.asarray(b).tobytes() == np.asarray(c).tobytes()
        assert np.shape(a) == np.shape(b)
        if tolerance and np.asarray(a).dtype.kind == "f":
            scale = np.abs(np.asarray(a)[np.isfinite(a)]).max(initial=1)
            np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * scale)
        else:
            np.testing.assert_array_equal(b, a)


def empty_like(array: Any) -> Any:
    """Return an array of the same kind, shape and type, of NaN."""
    return module_of(array).full(array.shape, np.nan, array.dtype)
