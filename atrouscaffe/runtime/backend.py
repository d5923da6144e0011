"""Devices: where arrays are made, and what kind an array is."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError, DeviceError

__all__ = ["ENGINES", "CpuBackend", "get_backend", "module_of", "on_device"]

ENGINES = ("winograd", "direct", "panels", "columns")
"""Ways of a convolution on the CPU: Winograd's transforms, sampled panels and our kernel, columns and BLAS."""


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
        The way that convolutions take (`ENGINES`), where it can; None chooses for each.
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
        self._changes = [0]

    @property
    def epoch(self) -> int:
        """Number of changes of parameters so far."""
        return self._changes[0]

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
        self._changes[0] += 1

    def shares_parameters(self, other: Any) -> None:
        """Say that this net and another one use the same parameters from now on: they count changes together."""
        self._changes = other._changes


def get_backend(device: str = "cpu", precision: str = "fp32", engine: str | None = None,
                winograd: bool = True) -> Any:
    """Return the backend of ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Parameters
    ----------
    device : str
    precision : {"fp32", "tf32", "fp16"}
        Of the operands of matrix products; on the CPU only ``"fp32"``.
    engine : str, optional
        One of `ENGINES`: the way of convolutions, where it can do the work; on the CPU only.
    winograd : bool
        False: without Winograd's transforms, whose rounding differs from that of plain sums.

    Raises
    ------
    DeviceError
        The device cannot be had: there is never a silent fall-back to the CPU.
    ArgumentError
    """
    if engine is not None and (engine not in ENGINES or device != "cpu" or (engine == "winograd" and not winograd)):
        raise ArgumentError(f"engine: expected one of {', '.join(ENGINES)}, on device 'cpu' and not against winograd="
                            f"False, got {engine!r} on {device!r}")
    if device == "cpu":
        if precision != "fp32":
            raise ArgumentError(f"precision: expected 'fp32' on device 'cpu', got {precision!r}; the others need a "
                                "CUDA device")
        return CpuBackend(engine or (None if winograd else "plain"))
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
