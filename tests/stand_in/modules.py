"""The modules ``cupy``, ``cupy.cuda`` and what lies below them, as far as the engine goes."""

from __future__ import annotations

import ctypes
import re
import sys
import types
from pathlib import Path

import numpy as np

from tests.stand_in import arrays, blas, errors, memory, streams
from tests.stand_in.arrays import arrays_in, compute, host, ndarray, ufunc, write
from tests.stand_in.kernel import RawModule

_NEEDS_HOST = {"nonzero", "flatnonzero", "argwhere", "unique", "unique_all", "unique_counts", "unique_inverse",
               "unique_values", "bincount", "extract", "compress", "repeat", "delete", "trim_zeros", "intersect1d",
               "setdiff1d", "setxor1d", "union1d", "histogram", "digitize", "asarray_chkfinite", "place", "putmask"}
_BY_CUBLAS = {"dot", "inner", "matmul", "tensordot", "vdot"}
_HOST_RESULTS = {"ndim", "shape", "iscomplexobj", "isrealobj", "isfortran"}
_WRITES_FIRST = {"put": 0, "fill_diagonal": 0, "place": 0, "putmask": 0, "put_along_axis": 0}
_VIEWS = {"array_split", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "broadcast_to", "diag",
          "diagonal", "dsplit", "expand_dims", "flip", "fliplr", "flipud", "hsplit", "imag", "matrix_transpose",
          "moveaxis", "permute_dims", "ravel", "real", "reshape", "rollaxis", "rot90", "split", "squeeze", "swapaxes",
          "transpose", "trim_zeros", "vsplit"}
_NO_ARRAY_NEEDED = {"indices", "tri", "tril_indices", "triu_indices", "diag_indices", "mask_indices"}
_METHODS = ("all", "any", "argpartition", "argsort", "choose", "compress", "conj", "cumprod", "cumsum", "dot", "max",
            "mean", "min", "nonzero", "prod", "ptp", "repeat", "round", "searchsorted", "std", "sum", "trace", "var")
words: dict[str, object] = {}


def _function(name, parameters):
    """Return CuPy's function of this name, which takes CuPy's parameters only."""
    function = getattr(np, name)
    free = any(p.startswith("*") for p in parameters)
    named = {p.lstrip("*") for p in parameters}

    def call(*args, **kwargs):
        if not free and len(args) > len(parameters):
            raise TypeError(f"{name}() takes {len(parameters)} positional arguments but {len(args)} were given")
        unknown = [key for key in kwargs if key not in named] if "**kwargs" not in parameters else []
        if unknown:
            raise TypeError(f"{name}() got an unexpected keyword argument {unknown[0]!r}")
        if not free:
            kwargs = dict(zip(parameters, args)) | kwargs
            args = ()
        inputs = list(arrays_in([*args, *kwargs.values()]))
        if not inputs and name not in _NO_ARRAY_NEEDED:
            raise TypeError(f"cupy.{name}: expected an array of the device")
        if name in _BY_CUBLAS:
            blas.refuse_to_be_recorded()
        if name in _NEEDS_HOST:
            streams.refuse_to_be_recorded()
            streams.wait_for_host()
        out = kwargs.pop("out", None)
        values, named_values = host(args), {key: host(value) for key, value in kwargs.items()}
        if not free:  # by place, since NumPy has other names for some
            values, named_values = _places(function, parameters, named_values)
        dry_values = [arrays._dry(value) for value in values]
        if name in _HOST_RESULTS:
            return function(*values, **named_values)
        if out is not None:
            write(lambda target: function(*values, out=target, **named_values), out, inputs,
                  lambda target: function(*dry_values, out=target, **named_values))
            return out
        if name in _WRITES_FIRST:
            streams.submit(lambda: function(*values, **named_values), arrays.blocks(*inputs))
            return None
        views = name in _VIEWS
        return compute(lambda: function(*values, **named_values), inputs, views,
                       lambda: function(*(values if views else dry_values), **named_values))

    call.__name__ = name
    return call


def _places(function, parameters, values):
    """Return (positional, named): the leading parameters by place, the others by name."""
    positional = []
    rest = dict(values)
    for name in parameters:
        if name not in rest or name in ("keepdims", "dtype", "casting", "axis"):
            break
        positional.append(rest.pop(name))
    return positional, rest


def _read_words():
    text = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8")
    _, ufuncs, functions = re.split(r"^\[\w+\]$", text, flags=re.MULTILINE)
    for name in ufuncs.split():
        if hasattr(np, name):
            words[name] = ufunc(name)
    for line in functions.split("\n"):
        match = re.fullmatch(r"(\w+)\((.*)\)", line)
        if match and hasattr(np, match[1]):
            words[match[1]] = _function(match[1], [p.strip() for p in match[2].split(",")] if match[2] else [])


def _to_device(values, dtype=None, copy=False):
    if isinstance(values, ndarray):
        dtype = values.dtype if dtype is None else np.dtype(dtype)
        return values.astype(dtype, copy=True) if copy or dtype != values.dtype else values
    if isinstance(values, (list, tuple)) and list(_device_arrays(values)):
        stacked = words["stack"]([_to_device(value) for value in values])
        return stacked if dtype is None else stacked.astype(dtype, copy=False)
    source = np.asarray(values, dtype)
    if source.ndim:  # a number goes there with the launch that fills the array
        streams.refuse_to_be_recorded(what="H2D transfers")
    result = ndarray(source.shape, source.dtype, order="F" if source.flags.f_contiguous and source.ndim > 1
                     and not source.flags.c_contiguous else "C")
    source = source.copy()
    streams.submit(lambda: np.copyto(result._a, source), [result._mem.block])
    return result


def _device_arrays(values):
    for value in values:
        if isinstance(value, ndarray):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _device_arrays(value)


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, blocking=False):
    return _to_device(obj, dtype, copy=bool(copy))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return _to_device(a, dtype, copy=bool(copy))


def ascontiguousarray(a, dtype=None):
    a = _to_device(a, dtype)
    return a if a.flags.c_contiguous else a.copy()


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def full(shape, fill_value, dtype=None, order="C"):
    result = ndarray(shape, np.asarray(arrays.operand(fill_value)).dtype if dtype is None else dtype, order=order)
    result.fill(fill_value)
    return result


def zeros(shape, dtype=float, order="C"):
    return full(shape, 0, dtype, order)


def ones(shape, dtype=float, order="C"):
    return full(shape, 1, dtype, order)


def _like(make):
    def like(a, *value, dtype=None, order="K", subok=None, shape=None):
        if not isinstance(a, ndarray):
            raise TypeError(f"Unsupported type {type(a)}")
        order = "F" if order in "FKA" and a.flags.f_contiguous and not a.flags.c_contiguous else "C"
        return make(a.shape if shape is None else shape, *value, dtype=a.dtype if dtype is None else dtype, order=order)
    return like


def _made(name):
    def make(*args, **kwargs):
        return compute(lambda: getattr(np, name)(*args, **kwargs), [])
    return make


def copyto(dst, src, casting="same_kind", where=None):
    if not isinstance(dst, ndarray):
        raise TypeError("dst must be an array of the device")
    extra = {} if where is None else {"where": arrays.operand(where)}
    source = arrays.operand(src)
    write(lambda target: np.copyto(target, source, casting=casting, **extra), dst,
          [a for a in (src, where) if isinstance(a, ndarray)])


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a, order=order)


def get_array_module(*args):
    return sys.modules["cupy"] if any(isinstance(arg, ndarray) for arg in args) else np


def as_strided(x, shape=None, strides=None):
    made = np.lib.stride_tricks.as_strided(x._a, x.shape if shape is None else shape,
                                           x.strides if strides is None else strides)
    low, high = np.lib.array_utils.byte_bounds(made)
    memory.device.find(low, high - low, "as_strided")
    return ndarray._view(made, x)


class DeviceHandle:
    """``cupy.cuda.Device``."""

    def __init__(self, device=None):
        if device not in (None, 0):
            raise errors.CUDARuntimeError(101)
        self.id = 0

    compute_capability = "90"
    pci_bus_id = "0000:00:00.0"
    attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448, "ClockRate": 1_000_000,
                  "MemoryClockRate": 1_000_000, "GlobalMemoryBusWidth": 1024, "MaxThreadsPerBlock": 1024,
                  "WarpSize": 32}

    @property
    def mem_info(self):
        return memory.device.total - memory.device.taken, memory.device.total

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, DeviceHandle) and other.id == self.id

    __hash__ = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def use(self):
        pass

    def synchronize(self):
        streams.synchronize_device()


def _properties(device):
    if device != 0:
        raise errors.CUDARuntimeError(101)
    return {"name": b"stand-in", "major": 9, "minor": 0, "totalGlobalMem": memory.device.total, "warpSize": 32,
            "multiProcessorCount": 132, "sharedMemPerBlock": 49152, "sharedMemPerBlockOptin": 232448,
            "maxThreadsPerBlock": 1024, "clockRate": 1_000_000, "memoryClockRate": 1_000_000, "memoryBusWidth": 1024,
            "l2CacheSize": 50 << 20}


def memcpy_async(dst, src, size, kind, stream):
    """Copy `size` bytes; kind 1 host to device, 2 device to host, 3 device to device."""
    target = streams.stream_of(stream)
    used, held = [], []
    for pointer, on_device in ((dst, kind in (1, 3)), (src, kind in (2, 3))):
        if on_device:
            used.append(memory.device.find(pointer, size, "memcpyAsync"))
        elif memory.device.pinned_at(pointer, size) is None:
            streams.wait_for_host(target)
            held = None  # done at once
        else:
            held.append(memory.device.pinned_at(pointer, size))
    streams.submit(lambda keep=(used, held): ctypes.memmove(dst, src, size), used, target)
    if held is None:
        streams.wait_for_host(target)


def _module(name, **content):
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


def _add_methods():
    for name in _METHODS:
        if hasattr(ndarray, name) or name not in words:
            continue
        setattr(ndarray, name, lambda self, *args, call=words[name], **kwargs: call(self, *args, **kwargs))
    ndarray.argmax = lambda self, axis=None, out=None, dtype=None, keepdims=False: words["argmax"](
        self, axis=axis, out=out, keepdims=keepdims)
    ndarray.argmin = lambda self, axis=None, out=None, dtype=None, keepdims=False: words["argmin"](
        self, axis=axis, out=out, keepdims=keepdims)
    ndarray.clip = lambda self, min=None, max=None, out=None: words["clip"](self, min, max, out=out)
    ndarray.take = lambda self, indices, axis=None, out=None: words["take"](self, indices, axis=axis, out=out)


_read_words()
_add_methods()


def make_modules():
    """Return all modules by name, new ones each time."""
    runtime = _module(
        "cupy.cuda.runtime", getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
        getDeviceProperties=_properties, getDevice=lambda: 0, setDevice=DeviceHandle,
        CUDARuntimeError=errors.CUDARuntimeError, memcpyAsync=memcpy_async, memcpyHostToDevice=1, memcpyDeviceToHost=2,
        memcpyDeviceToDevice=3, CUDA_R_32F=0,
        CUDA_R_64F=1, CUDA_R_16F=2, deviceSynchronize=streams.synchronize_device,
        memGetInfo=lambda: DeviceHandle().mem_info, is_hip=False,
        streamCaptureModeGlobal=0, streamCaptureModeThreadLocal=1, streamCaptureModeRelaxed=2)
    driver = _module("cupy.cuda.driver", CUDADriverError=errors.CUDADriverError, get_build_version=lambda: 13000)
    compiler = _module("cupy.cuda.compiler", CompileException=errors.CompileException)
    device = _module("cupy.cuda.device", Device=DeviceHandle, get_cublas_handle=lambda: blas.HANDLE,
                     get_compute_capability=lambda: "90", get_device_id=lambda: 0)
    cublas = _module("cupy_backends.cuda.libs.cublas", **blas.CONTENT)
    mem = _module("cupy.cuda.memory", MemoryPool=memory.MemoryPool, OutOfMemoryError=errors.OutOfMemoryError,
                  MemoryPointer=memory.MemoryPointer, alloc=memory.alloc)
    stream = _module("cupy.cuda.stream", Stream=streams.Stream, Event=streams.Event,
                     get_current_stream=streams.get_current_stream)
    cuda = _module(
        "cupy.cuda", runtime=runtime, driver=driver, compiler=compiler, device=device, cublas=cublas, memory=mem,
        stream=stream, Device=DeviceHandle, Stream=streams.Stream, Event=streams.Event, Graph=streams.Graph,
        get_current_stream=streams.get_current_stream, get_elapsed_time=streams.get_elapsed_time,
        MemoryPool=memory.MemoryPool, MemoryPointer=memory.MemoryPointer, Memory=memory.raw_memory,
        using_allocator=memory.using_allocator,
        set_allocator=memory.set_allocator, get_allocator=memory.get_allocator, alloc=memory.alloc,
        alloc_pinned_memory=memory.alloc_pinned_memory, PinnedMemoryPool=memory.PinnedMemoryPool,
        get_cublas_handle=lambda: blas.HANDLE, get_device_id=lambda: 0, is_available=lambda: True)
    tricks = _module("cupy.lib.stride_tricks", as_strided=as_strided)
    lib = _module("cupy.lib", stride_tricks=tricks)
    cupy = _module("cupy", **words)
    kinds = ("float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp complex64 complex128 "
             "dtype newaxis pi e inf nan finfo iinfo integer floating number generic bool_ result_type promote_types "
             "can_cast issubdtype isscalar broadcast_shapes")
    vars(cupy).update({name: getattr(np, name) for name in kinds.split()})
    vars(cupy).update(
        __version__="14.2.0", ndarray=ndarray, array=array, asarray=asarray, asanyarray=asarray,
        ascontiguousarray=ascontiguousarray, empty=empty, zeros=zeros, ones=ones, full=full, empty_like=_like(empty),
        zeros_like=_like(zeros), ones_like=_like(ones),
        full_like=lambda a, fill_value, dtype=None, **kw: _like(full)(a, fill_value, dtype=dtype, **kw),
        arange=_made("arange"), linspace=_made("linspace"), eye=_made("eye"), identity=_made("identity"), copyto=copyto,
        asnumpy=asnumpy, get_array_module=get_array_module, cuda=cuda, lib=lib, RawModule=RawModule,
        size=lambda a, axis=None: np.size(host(a), axis),
        array_equal=_function("array_equal", ["a1", "a2", "equal_nan"]),
        may_share_memory=lambda a, b, max_work=None: np.may_share_memory(a._a, b._a),
        shares_memory=lambda a, b, max_work=None: np.shares_memory(a._a, b._a), is_available=lambda: True,
        get_default_memory_pool=lambda: memory.allocators.pool,
        get_default_pinned_memory_pool=memory.PinnedMemoryPool)
    vars(cupy)["bool"] = bool
    backends = {name: _module(name) for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs")}
    backends["cupy_backends.cuda.libs"].cublas = cublas
    backends["cupy_backends.cuda"].libs = backends["cupy_backends.cuda.libs"]
    backends["cupy_backends"].cuda = backends["cupy_backends.cuda"]
    modules = {m.__name__: m for m in (cupy, cuda, runtime, driver, compiler, device, cublas, mem, stream, tricks, lib)}
    modules.update(backends)
    for module in modules.values():
        module.__path__ = []
        module.__spec__ = None
    return modules

