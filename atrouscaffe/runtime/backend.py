"""Devices: where arrays are made, and what kind an array is."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError, DeviceError

__all__ = ["CpuBackend", "get_backend", "module_of", "on_device"]


class CpuBackend:
    """NumPy arrays in main memory.

    Attributes
    ----------
    name : str
        ``"cpu"``.
    xp : module
        What layers write elementwise operations with.
    precision : str
        ``"fp32"``.
    packs : bool
        Whether blobs may hold packed values (`atrouscaffe.ops.packed`); never on this device.
    engine : str or None
        The way that convolutions take (`atrouscaffe.ops.conv.ENGINES`); None chooses for each.
    epoch : int
        Counts changes of parameters; what was derived from them (`Blob.derived`) is made anew after one.
    """

    name = "cpu"
    xp = np
    precision = "fp32"
    packs = False
    planned_bytes = 0

    def __init__(self, engine: str | None = None) -> None:
        self.engine = engine
        self.epoch = 0

    def active(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which work for this device is done."""
        return contextlib.nullcontext()

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that turns a device's errors into this package's; there are none here."""
        return contextlib.nullcontext()

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

    def memory_budget(self) -> int | None:
        """Return None: main memory has the budget of `atrouscaffe.runtime.budget`."""
        return None

    def parameters_changed(self) -> None:
        """Say that values of parameters have changed: what was derived from them is made anew (`Blob.derived`)."""
        self.epoch += 1

    def shares_parameters(self, other: Any) -> None:
        """Say that two nets use the same parameters; nothing is derived from them on this device."""


def get_backend(device: str = "cpu", precision: str = "fp32") -> Any:
    """Return the backend of ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Parameters
    ----------
    device : str
    precision : {"fp32", "tf32", "fp16"}
        Of the operands of matrix products; on the CPU only ``"fp32"``.

    Raises
    ------
    DeviceError
        The device cannot be had: there is never a silent fall-back to the CPU.
    ArgumentError
    """
    if device == "cpu":
        if precision != "fp32":
            raise ArgumentError(f"precision: expected 'fp32' on device 'cpu', got {precision!r}; the others need a "
                                "CUDA device")
        return CpuBackend()
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", device)
    if match:
        from atrouscaffe.runtime.cuda import CudaBackend

        return CudaBackend(int(match[1] or 0), precision)
    raise DeviceError(f"device: expected 'cpu', 'cuda' or 'cuda:N', got {device!r}")


def on_device(array: Any) -> bool:
    """Whether `array` lies on a CUDA device: whatever is no NumPy array does."""
    return not isinstance(array, np.ndarray)


def module_of(array: Any) -> Any:
    """Return the module whose functions take `array`: NumPy or CuPy."""
    if isinstance(array, np.ndarray):
        return np
    from atrouscaffe.runtime.cuda import load_cupy

    return load_cupy()
