"""Devices: the one place that makes arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from atrouscaffe.errors import DeviceError

__all__ = ["CpuBackend", "get_backend"]


class CpuBackend:
    """NumPy arrays in main memory.

    Attributes
    ----------
    name : str
        ``"cpu"``.
    xp : module
        What layers write elementwise operations with.
    """

    name = "cpu"
    xp = np

    def asarray(self, values: Any, dtype: Any = None) -> np.ndarray:
        """Return `values` as an array of this device."""
        return np.asarray(values, dtype=dtype)

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        """Return `array` in main memory; on this device the array itself."""
        return array

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return an array of zeros; the system hands out its pages when they are first touched."""
        return np.zeros(shape, dtype)

    def synchronize(self) -> None:
        """Wait for work in flight; there is none on this device."""


def get_backend(device: str = "cpu") -> CpuBackend:
    """Return the backend of ``"cpu"``.

    Raises
    ------
    DeviceError
        Any other device: there is never a silent fall-back to the CPU.
    """
    if device == "cpu":
        return CpuBackend()
    if device == "cuda" or (device.startswith("cuda:") and device[5:].isdigit()):
        raise DeviceError(f"device {device!r}: this version has no CUDA engine; use device 'cpu'")
    raise DeviceError(f"device: expected 'cpu', 'cuda' or 'cuda:N', got {device!r}")
