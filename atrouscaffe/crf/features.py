"""Feature arrays of grids and images, and the lattices kept for the next call.

Features come in the order x, y, … , channel 0, channel 1, …: the last axis of the grid first.
Another order is another lattice.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from atrouscaffe.crf.lattice import Cut, Lattice
from atrouscaffe.errors import ArgumentError

__all__ = ["clear_lattices", "grid_cut", "grid_features", "image_features", "image_lattice", "position_lattice",
           "sigmas"]

KEPT_BYTES = 256 * 2**20  # of lattices kept for later calls, least recently used dropped first

_kept: OrderedDict[tuple, Lattice] = OrderedDict()
_lock = threading.Lock()


def sigmas(value: float | Sequence[float] | np.ndarray, count: int, name: str) -> tuple[float, ...]:
    """Return `count` standard deviations from one number or one for each axis.

    Raises
    ------
    ArgumentError
        Not 1 or `count` numbers, or one that is not finite and above 0.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: expected a number or {count} numbers, got {value!r}") from None
    if array.ndim == 0:
        array = np.full(count, float(array))
    if array.shape != (count,):
        raise ArgumentError(f"{name}: expected one number or {count}, one for each axis, got shape {array.shape}")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ArgumentError(f"{name}: expected finite standard deviations above 0, got {array.tolist()}")
    if not (array >= np.finfo(np.float32).tiny).all():
        raise ArgumentError(f"{name}: expected standard deviations above {np.finfo(np.float32).tiny:.2g}, "
                            f"got {array.tolist()}")
    return tuple(array.tolist())


def grid_features(shape: Sequence[int], sigma: Sequence[float]) -> np.ndarray:
    """Return positions x/sx, y/sy, … as (d, N) float32, last axis of the grid first."""
    dims = len(shape)
    out = np.empty((dims, *shape), np.float32)
    for i, s in enumerate(sigma):
        axis = dims - 1 - i
        place = [1] * dims
        place[axis] = shape[axis]
        out[i] = (np.arange(shape[axis], dtype=np.float32) / np.float32(s)).reshape(place)
    return out.reshape(dims, -1)


def image_features(image: np.ndarray, sigma_xy: Sequence[float], sigma_rgb: Sequence[float]) -> np.ndarray:
    """Return positions and channels of an image (*shape, C) as (d + C, N) float32."""
    *shape, channels = image.shape
    dims = len(shape)
    out = np.empty((dims + channels, int(np.prod(shape))), np.float32)
    out[:dims] = grid_features(shape, sigma_xy)
    flat = image.reshape(-1, channels)
    for c, s in enumerate(sigma_rgb):
        np.divide(flat[:, c].astype(np.float32), np.float32(s), out=out[dims + c])
    return out


def _remembered(key: tuple, build: Callable[[], Lattice]) -> Lattice:
    """Return the lattice kept under `key`, or build and keep it."""
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    lattice = build()
    with _lock:
        _kept[key] = lattice
        _kept.move_to_end(key)
        while len(_kept) > 1 and sum(held.nbytes for held in _kept.values()) > KEPT_BYTES:
            _kept.popitem(last=False)
        if lattice.nbytes > KEPT_BYTES:
            _kept.pop(key, None)
    return lattice


def clear_lattices() -> None:
    """Forget the lattices kept for later calls."""
    with _lock:
        _kept.clear()


def grid_cut(shape: tuple[int, ...]) -> Cut:
    """Return how a grid is cut into tiles."""
    return Cut.of_grid(shape)


def position_lattice(cut: Cut, shape: tuple[int, ...], sigma: tuple[float, ...], budget: int) -> Lattice:
    """Return the lattice of the grid's positions, kept for the next image of this size."""
    def build() -> Lattice:
        return Lattice(grid_features(shape, sigma), cut=cut, memory_budget=budget)

    return _remembered(("position", shape, sigma), build)


def image_lattice(cut: Cut, image: np.ndarray, sigma_xy: tuple[float, ...], sigma_rgb: tuple[float, ...],
                  budget: int) -> Lattice:
    """Return the lattice of an image (*shape, C), kept for the next call with the same image."""
    image = np.ascontiguousarray(image)
    digest = hashlib.blake2b(image.data, digest_size=16).digest()
    key = ("image", image.shape, image.dtype.str, digest, sigma_xy, sigma_rgb)

    def build() -> Lattice:
        return Lattice(image_features(image, sigma_xy, sigma_rgb), cut=cut, memory_budget=budget)

    return _remembered(key, build)
