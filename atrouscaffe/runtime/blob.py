"""Blob: a named array and its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.runtime.backend import CpuBackend

__all__ = ["Blob"]

MAX_ELEMENTS = 2**31 - 1  # Caffe counts elements in an int


class Blob:
    """Values and gradient of one shape, allocated when first touched.

    Layers use `array` and `grad`, which live on the net's device; users read and write `data` and
    `diff`, NumPy arrays (on the CPU the same objects). Buffers grow and never shrink, so an array
    taken from a blob stays valid until a larger reshape, as in ``blob.cpp``.

    Parameters
    ----------
    shape : sequence of int
    backend : CpuBackend, optional
    dtype : dtype, optional
        float32, or float64 for checks.
    """

    def __init__(self, shape: Sequence[int] = (), backend: CpuBackend | None = None, dtype: Any = np.float32) -> None:
        self.backend = backend or CpuBackend()
        self.dtype = np.dtype(dtype)
        self._array: Any = None
        self._grad: Any = None
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
        self._shape = shape
        self._array_view = self._grad_view = None

    def _view(self, buffer: Any) -> tuple[Any, Any]:
        """Return (buffer, view of it in the current shape), growing the buffer where it is too small."""
        n = self.count
        if buffer is None or buffer.size < n:
            fresh = self.backend.zeros((n,), self.dtype)
            if buffer is not None:
                fresh[: buffer.size] = buffer
            buffer = fresh
        return buffer, buffer[:n].reshape(self._shape)

    @property
    def array(self) -> Any:
        """Values on the net's device."""
        if self._array_view is None:
            self._array, self._array_view = self._view(self._array)
        return self._array_view

    @property
    def grad(self) -> Any:
        """Gradient on the net's device; zeros until something is written."""
        if self._grad_view is None:
            self._grad, self._grad_view = self._view(self._grad)
        return self._grad_view

    @property
    def data(self) -> np.ndarray:
        """Values as a writable NumPy array of `shape`."""
        return self.backend.to_numpy(self.array)

    @property
    def diff(self) -> np.ndarray:
        """Gradient as a writable NumPy array of `shape`."""
        return self.backend.to_numpy(self.grad)

    @property
    def has_data(self) -> bool:
        """Whether a buffer for values was ever asked for."""
        return self._array is not None

    @property
    def has_grad(self) -> bool:
        """Whether a gradient buffer was ever asked for."""
        return self._grad is not None

    def share_data(self, other: Blob) -> None:
        """Use the values of `other`, a blob of the same count, as this one's (``Blob::ShareData``)."""
        if other.count != self.count:
            raise ShapeError(f"sharing values: expected {self.count} elements {self._shape}, "
                             f"got {other.count} {other.shape}")
        other.array  # noqa: B018  (allocates)
        self._array, self._array_view = other._array, None

    def share_diff(self, other: Blob) -> None:
        """Use the gradient of `other` as this one's (``Blob::ShareDiff``)."""
        if other.count != self.count:
            raise ShapeError(f"sharing gradients: expected {self.count} elements {self._shape}, "
                             f"got {other.count} {other.shape}")
        other.grad  # noqa: B018  (allocates)
        self._grad, self._grad_view = other._grad, None

    def place(self, buffer: Any) -> None:
        """Keep the values in `buffer`, a one-dimensional array of at least `count` elements that others use too."""
        self._array, self._array_view = buffer, None

    def release(self) -> None:
        """Give both buffers back; the shape stays."""
        self._array = self._grad = self._array_view = self._grad_view = None

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
