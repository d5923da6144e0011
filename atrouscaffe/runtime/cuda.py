"""The CUDA device, through CuPy: the only file that imports it.

CuPy can be missing, or be there without a driver, or with a driver and no device; the states are told
apart by `probe`, and nothing falls back to the CPU. Work goes to the current stream; host and device
meet only where arrays are copied.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError, AtrousCaffeError, BudgetError, DeviceError

__all__ = ["PRECISIONS", "CudaBackend", "Probe", "Recording", "cached", "current", "dotted", "load_cupy",
           "milliseconds", "probe", "recorder", "recording"]

PRECISIONS = ("fp32", "tf32", "fp16")
"""What the operands of matrix products are rounded to; sums and blobs are float32 in all three."""

WAYS = ("measured", "explicit", "implicit")
"""How convolutions go; see `atrouscaffe.ops.conv_cuda`."""

INSTALL = ("pip install 'atrouscaffe[cuda13]' for drivers from 580 on, 'atrouscaffe[cuda12]' for drivers from 525 on")
OLDEST = (7, 0)
"""Compute capability below which the kernels are not compiled."""

_local = threading.local()


@functools.cache
def load_cupy() -> Any:
    """Return the module ``cupy``.

    Raises
    ------
    DeviceError
        It is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise DeviceError(f"device 'cuda': CuPy cannot be loaded: {error}; install it again: {INSTALL}") \
                from error
        raise DeviceError(f"device 'cuda': CuPy, through which CUDA is used, is not installed; {INSTALL}") from None
    except ImportError as error:
        text = str(error.__cause__ or error).strip().split("\n")[0]  # CuPy's own text begins with a line of signs
        raise DeviceError(f"device 'cuda': CuPy is installed and cannot be loaded: {text}; only one of the "
                              f"packages cupy, cupy-cuda12x and cupy-cuda13x may be installed; {INSTALL}") from error
    except OSError as error:  # it makes a folder for compiled kernels when it is loaded
        raise DeviceError(f"device 'cuda': CuPy is installed and cannot be loaded: {error}; set CUPY_CACHE_DIR to a "
                          "folder that may be written to") from error


@dataclass(frozen=True)
class Probe:
    """What `probe` found.

    Attributes
    ----------
    state : {"not installed", "cannot be loaded", "no driver", "old driver", "no device", "failing", "ready"}
    message : str
        One sentence: what is the matter and what to do; for a ready device, its name.
    cupy : str
        CuPy's version, "" where it is not installed.
    driver, runtime : int
        CUDA versions as 1000 major + 10 minor; 0 is none.
    devices : tuple of str
        Names.
    capability : tuple of (int, int)
        Of each device.
    """

    state: str
    message: str
    cupy: str = ""
    driver: int = 0
    runtime: int = 0
    devices: tuple[str, ...] = ()
    capability: tuple[tuple[int, int], ...] = ()


def probe() -> Probe:
    """Find out whether a CUDA device works, by taking memory on it."""
    try:
        cupy = load_cupy()
    except DeviceError as error:
        missing = importlib.util.find_spec("cupy") is None
        return Probe("not installed" if missing else "cannot be loaded", str(error))
    api = cupy.cuda.runtime
    driver, runtime, version = api.driverGetVersion(), api.runtimeGetVersion(), cupy.__version__
    if not driver:
        return Probe("no driver", "device 'cuda': no NVIDIA driver was found; install the driver of your graphics card",
                     version, driver, runtime)
    try:
        count = api.getDeviceCount()
    except api.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            return Probe("old driver", f"device 'cuda': the driver speaks CUDA {dotted(driver)} and CuPy needs "
                         f"{dotted(runtime)}; update the driver, or install the CuPy of an older CUDA: {INSTALL}",
                         version, driver, runtime)
        return Probe("no device", f"device 'cuda': no CUDA device was found ({error})", version, driver, runtime)
    if not count:
        return Probe("no device", "device 'cuda': the driver sees no CUDA device", version, driver, runtime)
    names, capability = [], []
    for index in range(count):
        about = api.getDeviceProperties(index)
        name = about["name"]
        names.append(name.decode() if isinstance(name, bytes) else str(name))
        capability.append((int(about["major"]), int(about["minor"])))
    facts = (version, driver, runtime, tuple(names), tuple(capability))
    try:
        cupy.zeros(1024, np.float32).sum().item()
    except Exception as error:  # whatever a broken installation raises is the finding
        return Probe("failing", f"device 'cuda': {names[0]} is there and its first use failed: "
                     f"{(str(error).strip() or type(error).__name__).splitlines()[0]}", *facts)
    return Probe("ready", names[0], *facts)


def dotted(version: int) -> str:
    """Return one of CUDA's version numbers, 1000 major + 10 minor, as people write it."""
    return f"{version // 1000}.{version % 1000 // 10}"


class CudaBackend:
    """Arrays of one CUDA device.

    Parameters
    ----------
    index : int
    precision : {"fp32", "tf32", "fp16"}
        Of the operands of matrix products.

    Attributes
    ----------
    name : str
        ``"cuda:0"``.
    xp : module
        CuPy.
    convolution : {"measured", "explicit", "implicit"}
        What ``ATROUSCAFFE_CONVOLUTION`` said when this was made: the way of convolutions (`atrouscaffe.ops.conv_cuda`).
    packs : bool
        Whether blobs may hold packed values (`atrouscaffe.ops.packed`): half precision on tensor cores, not by columns.
    planned_bytes : int
        What the memory plan of the net that runs here takes, for errors.
    epoch : int
        Counts changes of parameters; what was derived from them (`cached`) is made anew after one.

    Raises
    ------
    DeviceError
        The device is missing or not usable: no CuPy, no driver, no device, too old.
    """

    engine = None

    def __init__(self, index: int = 0, precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise ArgumentError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.xp = load_cupy()
        found = probe()
        if found.state != "ready":
            raise DeviceError(found.message)
        if index >= len(found.devices):
            raise DeviceError(f"device 'cuda:{index}': this machine has {len(found.devices)}: "
                              f"{', '.join(found.devices)}; count from 0")
        self.capability = found.capability[index]
        needed = (8, 0) if precision == "tf32" else OLDEST
        if self.capability < needed:
            raise DeviceError(f"device 'cuda:{index}': {found.devices[index]} has compute capability "
                              f"{self.capability[0]}.{self.capability[1]}; precision {precision!r} needs "
                              f"{needed[0]}.{needed[1]} or newer")
        self.index, self.precision = index, precision
        self.name, self.device_name = f"cuda:{index}", found.devices[index]
        self.convolution = os.environ.get("ATROUSCAFFE_CONVOLUTION", WAYS[0])
        if self.convolution not in WAYS:
            raise ArgumentError(f"ATROUSCAFFE_CONVOLUTION: expected one of {', '.join(WAYS)}, got {self.convolution!r}")
        self.packs = precision == "fp16" and self.capability >= (8, 0) and self.convolution != "explicit"
        self.epoch = 0
        self.planned_bytes = 0
        self._family: weakref.WeakSet[CudaBackend] = weakref.WeakSet([self])  # this and those that share parameters
        self._device = self.xp.cuda.Device(index)
        self._derived: dict[Any, tuple[int, Any]] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this the current device and precision of the thread; CUDA's errors become DeviceError and BudgetError.

        Raises
        ------
        BudgetError
            The device's memory is used up.
        DeviceError
            The device failed.
        """
        before = getattr(_local, "backend", None)
        _local.backend = self
        try:
            with self.errors(), self._device:
                yield
        finally:
            _local.backend = before

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn CUDA's errors into this package's; see `active`."""
        cuda = self.xp.cuda
        try:
            yield
        except cuda.memory.OutOfMemoryError as error:
            free, total = self._device.mem_info
            planned = f"; the net's plan is {self.planned_bytes / 1e6:,.0f} MB" if self.planned_bytes else ""
            raise BudgetError(f"device {self.name!r}: out of memory, {free / 1e6:,.0f} of {total / 1e6:,.0f} MB are "
                              f"free ({error}){planned}; use a smaller input or batch, or keep fewer blobs "
                              "(keep=[...])") from error
        except (RuntimeError, ImportError) as error:
            reason = _reason(error, f"device {self.name!r}")
            if reason is None:
                raise
            raise DeviceError(reason) from error
        except cuda.compiler.CompileException as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or ["no reason given"]
            line = next((line.strip() for line in lines if "error" in line), lines[0])
            raise DeviceError(f"device {self.name!r}: a kernel did not compile for this device: {line}; "
                              "`atrouscaffe doctor` says what is installed") from error

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Return `values` as an array of this device, copied there."""
        with self.active():
            return self.xp.asarray(values, dtype=dtype)

    def to_numpy(self, array: Any) -> np.ndarray:
        """Return a copy of `array` in main memory."""
        with self.active():
            return array.get()

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an array of zeros."""
        with self.active():
            return self.xp.zeros(shape, dtype)

    def synchronize(self) -> None:
        """Wait for work in flight."""
        with self.active():
            self._device.synchronize()

    def memory_budget(self) -> int:
        """Return how many bytes a net may take: 0.9 of what is free on the device, or kept for use by CuPy."""
        with self.active():
            return int(0.9 * (self._device.mem_info[0] + self.xp.get_default_memory_pool().free_bytes()))

    def parameters_changed(self) -> None:
        """Say that values of parameters have changed, so that what was derived from them is made anew.

        Backends of nets that share parameters with this one's hear of it too.
        """
        for backend in list(self._family):
            backend.epoch += 1

    def shares_parameters(self, other: CudaBackend) -> None:
        """Say that the net of this backend and that of `other` use the same parameters from now on."""
        self._family.update(other._family)
        for backend in list(self._family):
            backend._family = self._family
        self.parameters_changed()


def _reason(error: Exception, device: str) -> str | None:
    """Return what is the matter where an error is CUDA's, or CuPy's on the way there; else None."""
    text = str(error)
    if isinstance(error, AtrousCaffeError):
        return None
    if "stream" in text.lower() and "captur" in text.lower():  # some CuPy raises without a class for it
        return f"recording: work that waits for the host, or copies from or to it, cannot be recorded ({text})"
    if {cls.__name__ for cls in type(error).__mro__} & {"CUDARuntimeError", "CUDADriverError", "CUBLASError"}:
        return f"{device} failed: {text}; after such a failure the process must be started again"
    if any(words in text for words in ("libnvrtc", "libcublas", "CUDA headers", "CUDA root")):
        line = text.strip().split("\n")[0]
        return f"{device}: a part of CUDA that CuPy uses is missing: {line}; {INSTALL}"
    return None


def current() -> CudaBackend | None:
    """Return the backend whose `CudaBackend.active` this thread is inside, if any."""
    return getattr(_local, "backend", None)


def cached(kind: Any, array: Any, make: Callable[[], Any]) -> Any:
    """Return ``make()``, kept for this `kind` and `array` of the current backend until parameters change.

    For weights in another form: half precision, packed. Without a current backend nothing is kept, nor while work is
    recorded, which makes it anew with each replay and not before.
    """
    backend = current()
    if backend is None:
        return make()
    key = (kind, array.data.ptr, array.shape, array.dtype.char)
    entry = backend._derived.get(key)
    if entry is not None and entry[0] == backend.epoch:
        return entry[1]
    made = make()
    if not recording():
        backend._derived[key] = (backend.epoch, made)
    return made


# -- time -------------------------------------------------------------------------------------------


def milliseconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the least time on the device of several runs of `work`, after one that is not counted."""
    cuda = load_cupy().cuda
    work()
    begin, end = cuda.Event(), cuda.Event()
    least = float("inf")
    for _ in range(repeats):
        begin.record()
        work()
        end.record()
        end.synchronize()
        least = min(least, cuda.get_elapsed_time(begin, end))
    return least


def recording() -> bool:
    """Whether the current stream is recording a graph: nothing may be waited for then."""
    return bool(load_cupy().cuda.get_current_stream().is_capturing())


# -- recorded work ----------------------------------------------------------------------------------


def recorder() -> Recording | None:
    """Return the recording that this thread makes, if any."""
    return getattr(_local, "recorder", None)


def workspace_bytes(capability: tuple[int, int]) -> int:
    """Return how much memory cuBLAS recommends to lend it on a device of this compute capability."""
    return 32 << 20 if (9, 0) <= capability < (12, 0) else 12 << 20 if capability >= (12, 0) else 4 << 20


def _take(cuda: Any, size: int) -> Any:
    """Return memory of the device; where there is none, raise what keeps a pool from freeing its blocks for a retry."""
    try:
        return cuda.MemoryPointer(cuda.Memory(size), 0)
    except cuda.runtime.CUDARuntimeError as error:
        if "MemoryAllocation" not in str(error):
            raise
        raise cuda.memory.OutOfMemoryError(size, 0, 0) from error


class Recording:
    """Device work that is recorded once as a CUDA graph and then replayed without its launches' cost.

    The work runs once to compile its kernels and to make what is derived from parameters, and once to be recorded,
    in a memory pool of its own, so that the temporary arrays at whose addresses it works stay its own. The pool
    gives nothing back before the recording goes: neither while it records, however scarce memory is, nor, since
    CuPy's pools do not when they are dropped, by itself.

    Parameters
    ----------
    backend : CudaBackend
    work : callable
        Starts work on the current stream; it must not wait for the device or copy to or from the host.

    Raises
    ------
    DeviceError
        The work cannot be recorded.
    """

    def __init__(self, backend: CudaBackend, work: Callable[[], Any]) -> None:
        cuda = backend.xp.cuda
        self._backend, self._pool = backend, cuda.MemoryPool(functools.partial(_take, cuda))
        self._lent: Any = None
        with backend.active():
            work()
            cuda.get_current_stream().synchronize()
            backend.xp.get_default_memory_pool().free_all_blocks()  # what it keeps for others would be lacking here
            self._stream = cuda.Stream(non_blocking=True)
            with self._stream, cuda.using_allocator(self._pool.malloc):
                self._stream.begin_capture()
                before, _local.recorder = getattr(_local, "recorder", None), self
                try:
                    work()
                except BaseException:
                    self._abandon()
                    raise
                finally:
                    _local.recorder = before
                self._graph = self._stream.end_capture()
        self.epoch = backend.epoch

    def __del__(self) -> None:
        if not sys.is_finalizing() and getattr(self, "_stream", None) is not None:
            self._graph = self._lent = None
            with self._backend._device:
                self._pool.free_all_blocks()

    def workspace(self) -> tuple[int, int]:
        """Return address and bytes of memory that the recorded matrix products may use, taken when first asked for."""
        if self._lent is None:
            self._lent = self._backend.xp.empty(workspace_bytes(self._backend.capability), np.uint8)
        return self._lent.data.ptr, self._lent.nbytes

    def _abandon(self) -> None:
        """End a capture that failed; that it did is what CUDA then says once more."""
        with contextlib.suppress(self._backend.xp.cuda.runtime.CUDARuntimeError):
            self._stream.end_capture()

    def replay(self) -> None:
        """Start the recorded work on the current stream, behind what is already there."""
        with self._backend.active():
            self._graph.launch(self._backend.xp.cuda.get_current_stream())

