"""Blob: a named array and its gradient, on the host, on a device, or on both."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.runtime.backend import CpuBackend

__all__ = ["Blob", "moves"]

MAX_ELEMENTS = 2**31 - 1  # Caffe counts elements in an int

_moves = 0
"""How often a blob got another shape or another buffer on its device, in all blobs together."""


def moves() -> int:
    """Return a number that changes whenever some blob gets another shape or another place."""
    return _moves


def _count_move() -> None:
    global _moves
    _moves += 1


class _Memory:
    """A flat buffer that grows, with a mirror in main memory where the device has memory of its own.

    Whoever was handed one of the two may have written to it, so the other is out of date until it is
    asked for: ``SyncedMemory`` of the original.
    """

    def __init__(self, backend: Any, dtype: np.dtype, tracked: bool) -> None:
        self.backend, self.dtype, self.tracked = backend, dtype, tracked
        self.device: Any = None
        self.mirror: np.ndarray | None = None
        self.ahead = False  # the mirror was handed out after the device
        self.shown = False  # somebody outside may hold the array and write to it at any time
        self.derived: dict[Any, Any] = {}
        self.derived_from: Any = None
        self.lock = threading.Lock()

    def reserve(self, count: int) -> None:
        """Make room for `count` elements; what the buffer held is kept."""
        if self.device is None or self.device.size < count:
            fresh = self.backend.zeros((count,), self.dtype)
            if self.device is not None:
                self.push()
                with self.backend.active():
                    fresh[: self.device.size] = self.device
            self.use(fresh)

    def use(self, buffer: Any) -> None:
        """Make `buffer` the device's half."""
        _count_move()
        self.device = buffer

    def push(self) -> None:
        """Copy the mirror to the device where it is ahead."""
        if self.ahead and self.mirror is not None:
            self.ahead = False
            with self.backend.active():
                self.device[: self.mirror.size] = self.backend.asarray(self.mirror)
            if self.tracked:
                self.backend.parameters_changed()

    def on_device(self, count: int) -> Any:
        """Return `count` elements on the device, to read and write."""
        self.reserve(count)
        self.push()
        return self.device[:count]

    def on_host(self, count: int, writing: bool) -> np.ndarray:
        """Return `count` elements in main memory; with `writing` the device takes them over when next asked."""
        self.reserve(count)
        if self.mirror is not None and self.ahead and self.mirror.size >= count:
            return self.mirror[:count]
        self.push()
        fresh = self.backend.to_numpy(self.device[:count])
        if not writing:
            return fresh
        if self.mirror is None or self.mirror.size != count:
            self.mirror = fresh
        else:
            self.mirror[...] = fresh  # whoever holds it sees the new values
        self.ahead = True
        return self.mirror


class Blob:
    """Values and gradient of one shape, allocated when first touched.

    Layers use `array` and `grad`, which live on the net's device; users read and write `data` and
    `diff`, NumPy arrays. On the CPU these are the same objects. On another device `data` copies the
    values to main memory, and what was written there is copied back before the next layer reads them;
    so after a pass take `data` anew (``Blob.mutable_cpu_data`` of the original behaves alike).

    Buffers grow and never shrink, so an array taken from a blob stays valid until a larger reshape,
    as in ``blob.cpp``.

    Parameters
    ----------
    shape : sequence of int
    backend : CpuBackend or CudaBackend, optional
    dtype : dtype, optional
        float32, or float64 for checks.
    parameter : bool, optional
        Its values are a net's parameters: the backend is told when a user writes them.
    """

    def __init__(self, shape: Sequence[int] = (), backend: Any = None, dtype: Any = np.float32,
                 parameter: bool = False) -> None:
        self.backend = backend or CpuBackend()
        self.dtype = np.dtype(dtype)
        self._on_host = self.backend.xp is np
        self._values = _Memory(self.backend, self.dtype, parameter)
        self._gradient = _Memory(self.backend, self.dtype, False)
        self._shape: tuple[int, ...] = ()
        self._array_view: Any = None
        self._grad_view: Any = None
        self.reshape(*shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along each axis, ``(N, C, H, W)`` for images."""
        return self._shape

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    def reshape(self, *shape: int) -> None:
        """Change the shape; what the buffer held is kept where it still fits.

        Raises
        ------
        ShapeError
            A negative size, or more elements than Caffe can count.
        """
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        shape = tuple(int(n) for n in shape)
        if any(n < 0 for n in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise ShapeError(f"blob shape: expected sizes of at least 0 and at most {MAX_ELEMENTS} elements, "
                             f"got {shape}")
        if shape == self._shape and self._array_view is not None:
            return
        _count_move()
        self._shape = shape
        self._array_view = self._grad_view = None

    @property
    def array(self) -> Any:
        """Values on the net's device."""
        if self._array_view is None or self._values.ahead:
            self._array_view = self._values.on_device(self.count).reshape(self._shape)
        return self._array_view

    @property
    def grad(self) -> Any:
        """Gradient on the net's device; zeros until something is written."""
        if self._grad_view is None or self._gradient.ahead:
            self._grad_view = self._gradient.on_device(self.count).reshape(self._shape)
        return self._grad_view

    @property
    def data(self) -> np.ndarray:
        """Values as a writable NumPy array of `shape`."""
        self._values.shown = True
        return self.array if self._on_host else self._values.on_host(self.count, True).reshape(self._shape)

    def derived(self, key: Any, make: Callable[[], Any], watched: bool = False, beside: Sequence[Blob] = ()) -> Any:
        """Return what `make` returns, kept under `key` until the values change (weights packed for a kernel).

        Changes are known from the backend (`parameters_changed`); where `data` was handed out, or with `watched`, the
        values themselves are looked at each time.

        Parameters
        ----------
        key : hashable
        make : callable
            Must depend on the values of this blob, and of those `beside` it, alone.
        watched : bool
        beside : sequence of Blob
        """
        memory, others = self._values, [blob.state(watched) for blob in beside]
        with memory.lock:
            state = self.state(watched)
            if state != memory.derived_from:
                memory.derived.clear()
                memory.derived_from = state
            if key not in memory.derived or memory.derived[key][0] != others:
                memory.derived[key] = others, make()
            return memory.derived[key][1]

    def state(self, watched: bool = False) -> tuple[Any, ...]:
        """Return what changes when the values do, as far as `derived` notices."""
        from atrouscaffe.runtime.fingerprint import fingerprint

        memory = self._values
        mark = fingerprint(self.array) if watched or memory.shown else None
        return self.backend.epoch, id(memory.device), self._shape, mark

    @property
    def diff(self) -> np.ndarray:
        """Gradient as a writable NumPy array of `shape`."""
        return self.grad if self._on_host else self._gradient.on_host(self.count, True).reshape(self._shape)

    def push(self) -> None:
        """Copy the values to the device where a user may have written them."""
        self._values.push()

    def host(self) -> np.ndarray:
        """Return the values as a NumPy array to read; on another device a copy, which it does not take back."""
        return self.array if self._on_host else self._values.on_host(self.count, False).reshape(self._shape)

    def host_grad(self) -> np.ndarray:
        """Return the gradient as a NumPy array to read, as `host` does the values."""
        return self.grad if self._on_host else self._gradient.on_host(self.count, False).reshape(self._shape)

    @property
    def memory(self) -> object:
        """What holds the values: the same object for all blobs that share them."""
        return self._values

    @property
    def held_bytes(self) -> int:
        """Bytes of the buffer that holds the values, which may be larger than they are; 0 before they are touched."""
        return 0 if self._values.device is None else self._values.device.nbytes

    @property
    def has_data(self) -> bool:
        """Whether a buffer for values was ever asked for."""
        return self._values.device is not None

    @property
    def has_grad(self) -> bool:
        """Whether a gradient buffer was ever asked for."""
        return self._gradient.device is not None

    def share_data(self, other: Blob) -> None:
        """Use the values of `other`, a blob of the same count, as this one's (``Blob::ShareData``)."""
        if other.count != self.count:
            raise ShapeError(f"sharing values: expected {self.count} elements {self._shape}, "
                             f"got {other.count} {other.shape}")
        self._values, self._array_view = other._values, None
        self._values.use(self._values.device)

    def share_diff(self, other: Blob) -> None:
        """Use the gradient of `other` as this one's (``Blob::ShareDiff``)."""
        if other.count != self.count:
            raise ShapeError(f"sharing gradients: expected {self.count} elements {self._shape}, "
                             f"got {other.count} {other.shape}")
        self._gradient, self._grad_view = other._gradient, None

    def place(self, buffer: Any) -> None:
        """Keep the values in `buffer`, a one-dimensional array of at least `count` elements that others use too."""
        self._values = _Memory(self.backend, self.dtype, self._values.tracked)
        self._values.use(buffer)
        self._array_view = None

    def release(self) -> None:
        """Give both buffers back; the shape stays."""
        self._values = _Memory(self.backend, self.dtype, self._values.tracked)
        self._gradient = _Memory(self.backend, self.dtype, False)
        self._array_view = self._grad_view = None

    def _legacy(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise ShapeError(f"num, channels, height and width need at most 4 axes, this blob has {self._shape}")
        return self._shape[axis] if axis < len(self._shape) else 1

    @property
    def num(self) -> int:
        """First of the four legacy sizes."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Second of the four legacy sizes."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Third of the four legacy sizes."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Fourth of the four legacy sizes."""
        return self._legacy(3)

    def __repr__(self) -> str:
        return f"Blob(shape={self._shape}, dtype={self.dtype})"
