"""Kernels: the text of ``kernels/*.cu``, compiled once for each number type, and their launches.

A launch is checked against the kernel's own signature, which is read from the text: every scalar is
cast to the type that the kernel declares (CuPy would pass a Python int as 64 bits), every array must
have the element type of its pointer and no gaps. CuPy keeps what it compiled on disk.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.errors import DeviceError
from atrouscaffe.resources import resource
from atrouscaffe.runtime.cuda import load_cupy

__all__ = ["BLOCK", "Parameter", "compile_kernels", "defines", "kernel_files", "kernel_text", "launch", "prepare",
           "signatures"]

BLOCK = 256
"""Threads in a block, where a kernel does not say otherwise."""

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([\w.]+)"[^\n]*$', re.MULTILINE)
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)')
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TYPES: dict[str, Any] = {"int": np.int32, "unsigned": np.uint32, "long long": np.int64,
                          "unsigned long long": np.uint64, "float": np.float32, "double": np.float64,
                          "half": np.float16, "unsigned char": np.uint8, "bool": np.bool_}
_C_NAMES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: its name, its type without ``const`` and ``*``, and whether it is a pointer."""

    name: str
    type: str
    pointer: bool

    def dtype(self, real: Any) -> np.dtype:
        """Return the NumPy type of a value, or of what the pointer points to; `real` stands for ``real``."""
        return np.dtype(real if self.type == "real" else _TYPES[self.type])


def kernel_files() -> list[str]:
    """Return the names of all ``.cu`` files, without the suffix, sorted."""
    return sorted(path.stem for path in resource("kernels").glob("*.cu"))


@functools.cache
def kernel_text(file: str) -> str:
    """Return the text of ``kernels/<file>.cu`` with the project's own ``.cuh`` files in place of their includes."""
    seen: set[str] = set()

    def insert(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _INCLUDE.sub(insert, resource("kernels", name).read_text(encoding="utf-8"))

    return _INCLUDE.sub(insert, resource("kernels", f"{file}.cu").read_text(encoding="utf-8"))


@functools.cache
def signatures(file: str) -> dict[str, tuple[Parameter, ...]]:
    """Return the parameters of every kernel in ``kernels/<file>.cu``, by its name.

    Raises
    ------
    DeviceError
        A parameter of a type that `launch` does not know.
    """
    found = {}
    for name, inside in _KERNEL.findall(_COMMENT.sub(" ", kernel_text(file))):
        found[name] = tuple(_parameter(part, f"{file}.cu: {name}") for part in inside.split(",") if part.strip())
    return found


def _parameter(text: str, where: str) -> Parameter:
    words = text.replace("*", " * ").split()
    kind = " ".join(word for word in words[:-1] if word not in ("const", "*", "__restrict__"))
    if kind != "real" and kind not in _TYPES:
        raise DeviceError(f"{where}: parameter {text.strip()!r}: expected one of real, {', '.join(_TYPES)}")
    return Parameter(words[-1], kind, "*" in words)


def defines(real: Any) -> tuple[str, ...]:
    """Return the compiler's options that make ``real`` the number type `real` (float32 or float64).

    Raises
    ------
    DeviceError
        Another type.
    """
    name = _C_NAMES.get(np.dtype(real))
    if name is None:
        raise DeviceError(f"kernels: expected float32 or float64 numbers, got {np.dtype(real)}")
    return (f"-DREAL={name}",)


@functools.cache
def _module(file: str, options: tuple[str, ...]) -> Any:
    return load_cupy().RawModule(code=kernel_text(file), options=("--std=c++17", *options))


@functools.cache
def _function(file: str, function: str, options: tuple[str, ...]) -> Any:
    return _module(file, options).get_function(function)


def launch(file: str, function: str, size: int | Sequence[int], args: Sequence[Any], *, real: Any = np.float32,
           block: int | Sequence[int] = BLOCK, shared: int = 0) -> None:
    """Start a kernel on the current device and stream; arguments as `prepare`."""
    prepare(file, function, size, args, real=real, block=block, shared=shared)()


def compile_kernels(file: str, real: Any = np.float32) -> tuple[str, ...]:
    """Compile ``kernels/<file>.cu`` for the current device, and return the names of its kernels."""
    names = tuple(signatures(file))
    for name in names:
        _function(file, name, defines(real))
    return names


def _nothing() -> None:
    """Start nothing."""


def prepare(file: str, function: str, size: int | Sequence[int], args: Sequence[Any], *, real: Any = np.float32,
            block: int | Sequence[int] = BLOCK, shared: int = 0) -> Callable[[], None]:
    """Check a launch once, to make it many times.

    Parameters
    ----------
    file : str
        ``"im2col"`` is ``kernels/im2col.cu``.
    function : str
    size : int or sequence of int
        An int is a number of work items, one a thread, for kernels that loop with ``EACH``; nothing is
        started for 0. A sequence is the grid in blocks.
    args : sequence of array, number or None
        As many as the kernel has parameters; None is a null pointer.
    real : dtype
        What ``real`` means in the kernel.
    block : int or sequence of int
        Threads in a block.
    shared : int
        Bytes of dynamic shared memory.

    Returns
    -------
    callable
        Starts the kernel on the current device and stream; it keeps the arrays alive.

    Raises
    ------
    DeviceError
        Arguments that do not fit the kernel's signature: a mistake in this package.
    """
    block = (block,) if isinstance(block, int) else tuple(block)
    if isinstance(size, (int, np.integer)):
        size = (-(-int(size) // block[0]),)
    if not all(size):
        return _nothing
    where = f"kernel {function} of {file}.cu"
    parameters = signatures(file).get(function)
    if parameters is None:
        raise DeviceError(f"{where}: there is no such kernel")
    if len(args) != len(parameters):
        raise DeviceError(f"{where}: expected {len(parameters)} arguments, got {len(args)}")
    values = tuple(_argument(value, parameter, real, where) for value, parameter in zip(args, parameters))
    kernel = _function(file, function, defines(real))
    if shared > 48 * 1024 and kernel.max_dynamic_shared_size_bytes < shared:
        kernel.max_dynamic_shared_size_bytes = shared  # above 48 KB it must be asked for
    grid = tuple(int(n) for n in size)
    return lambda: kernel(grid, block, values, shared_mem=shared)


def _argument(value: Any, parameter: Parameter, real: Any, where: str) -> Any:
    """Return `value` as the kernel declares it."""
    dtype = parameter.dtype(real)
    if not parameter.pointer:
        if isinstance(value, (bool, int, np.integer)) and dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if not limits.min <= value <= limits.max:
                raise DeviceError(f"{where}: {parameter.name}: expected a number that fits {dtype}, got {value}")
        return dtype.type(value)
    if value is None:
        return np.uint64(0)
    if isinstance(value, np.ndarray) or not hasattr(value, "dtype"):
        raise DeviceError(f"{where}: {parameter.name}: expected an array on the device, got {type(value).__name__}")
    if value.dtype != dtype or not value.flags.c_contiguous:
        raise DeviceError(f"{where}: {parameter.name}: expected a gapless array of {dtype}, got {value.dtype}, shape "
                          f"{value.shape}, strides {value.strides}")
    return value
