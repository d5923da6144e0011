"""The stand-in's ndarray: wraps a NumPy array, and is none.

It refuses what CuPy refuses: NumPy arrays among its operands, being turned into a NumPy array unasked,
NumPy functions on it that CuPy does not have.
"""

from __future__ import annotations

import operator

import numpy as np

from tests.stand_in import streams
from tests.stand_in.memory import MemoryPointer, alloc, device

SCALARS = (bool, int, float, complex, np.generic)
BASIC = (type(None), type(Ellipsis), slice, int, np.integer)
KINDS = set("?bhilqBHILQefdFD")


class Flags:
    def __init__(self, array):
        self.c_contiguous, self.f_contiguous = array._a.flags.c_contiguous, array._a.flags.f_contiguous
        self.owndata, self.writeable = array.base is None, True

    def __getitem__(self, name):
        return {"C_CONTIGUOUS": self.c_contiguous, "F_CONTIGUOUS": self.f_contiguous, "OWNDATA": self.owndata,
                "C": self.c_contiguous, "F": self.f_contiguous}[name]


class ndarray:
    """An array of the device; parameters as CuPy's."""

    __slots__ = ("__weakref__", "_a", "_mem", "base")
    __array_priority__ = 100
    __hash__ = None
    __module__ = "cupy"

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        shape = tuple(operator.index(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
        if any(n < 0 for n in shape):
            raise ValueError("Negative dimensions are not allowed")
        dtype = np.dtype(dtype)
        if dtype.char not in KINDS:
            raise ValueError(f"Unsupported dtype {dtype}")
        count = int(np.prod(shape, dtype=np.int64))
        fresh = memptr is None
        if fresh:
            memptr = alloc(count * dtype.itemsize)
            if not streams.recording():
                streams.submit(memptr.mem.block.poison)
        self._mem, self.base = memptr.mem, None
        block = memptr.mem.block
        at = block.offset + memptr.ptr - block.start
        if strides is not None:
            extent = sum((n - 1) * s for n, s in zip(shape, strides)) + dtype.itemsize if count else 0
            if min(strides, default=0) < 0:
                raise ValueError("strides must not be negative here")
        else:
            extent = count * dtype.itemsize
        if memptr.ptr + extent > block.start + block.size:
            raise ValueError("the array does not fit into the memory that it was given")
        raw = block.buffer[at : at + extent]
        if strides is not None:
            self._a = np.ndarray(shape, dtype, raw, 0, strides)
        else:
            self._a = np.ndarray(shape, dtype, raw, 0, order=order or "C")

    @classmethod
    def _view(cls, host, owner):
        """Wrap a view of `owner`'s memory."""
        self = object.__new__(cls)
        self._a, self._mem, self.base = host, owner._mem, owner if owner.base is None else owner.base
        return self

    # -- what it is

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    strides = property(lambda self: self._a.strides)
    flags = property(Flags)
    T = property(lambda self: self._view(self._a.T, self))
    real = property(lambda self: self._view(self._a.real, self))
    mT = property(lambda self: self._view(np.swapaxes(self._a, -1, -2), self))

    @shape.setter
    def shape(self, shape):
        host = self._a.reshape(shape)
        if host.size and not np.may_share_memory(host, self._a):
            raise AttributeError("incompatible shape")
        self._a = host

    @property
    def data(self):
        pointer = self._a.__array_interface__["data"][0]
        if not self._a.size:
            pointer = self._mem.ptr
        return MemoryPointer(self._mem, pointer - self._mem.ptr)

    @property
    def device(self):
        from tests.stand_in.modules import DeviceHandle

        return DeviceHandle(0)

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3,
                "strides": None if self.flags.c_contiguous else self.strides}

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    # -- to the host and back

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
                        "array explicitly.")

    def get(self, stream=None, order="C", out=None, blocking=True):
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
            if out.dtype != self.dtype or out.shape != self.shape or not out.flags.c_contiguous:
                raise ValueError("out: expected a contiguous array of the same shape and dtype")
        stream = stream or streams.get_current_stream()
        streams.refuse_to_be_recorded(stream)
        pinned = out is not None and device.is_pinned(out.__array_interface__["data"][0], out.nbytes)
        if blocking or not pinned:
            streams.wait_for_host(stream)
        result = out if out is not None else np.empty(self.shape, self.dtype, order if order in "CF" else "C")
        streams.submit(lambda: np.copyto(result, self._a), [self._mem.block], stream)
        if blocking or not pinned:
            streams.wait_for_host(stream)
        return result

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        streams.refuse_to_be_recorded(stream, "H2D transfers")
        if not device.is_pinned(arr.__array_interface__["data"][0], arr.nbytes):
            arr = arr.copy()
        streams.submit(lambda: np.copyto(self._a, arr), [self._mem.block], stream)

    def item(self):
        streams.refuse_to_be_recorded()
        streams.wait_for_host()
        return self._a.item()

    def tolist(self):
        streams.refuse_to_be_recorded()
        streams.wait_for_host()
        return self._a.tolist()

    def tobytes(self, order="C"):
        return self.get().tobytes(order)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __complex__(self):
        return complex(self.item())

    def __bool__(self):
        streams.refuse_to_be_recorded()
        streams.wait_for_host()
        return bool(self._a)

    def __format__(self, spec):
        return format(self.item() if self.ndim == 0 else self.get(), spec)

    # -- parts

    def __getitem__(self, key):
        host_key, basic = _key(key)
        if basic:
            host = self._a[host_key]
            if not isinstance(host, np.ndarray):  # one element is an array without axes
                host = self._a[(*(host_key if isinstance(host_key, tuple) else (host_key,)), ...)]
            return self._view(host, self)
        return compute(lambda: self._a[host_key], [self], dry=lambda: self._a[_dry(host_key)])

    def __setitem__(self, key, value):
        host_key, basic = _key(key)
        host = operand(value)
        target = self._a
        place = target[host_key if basic else _dry(host_key)]
        if np.ndim(host) <= np.ndim(place):
            np.broadcast_to(host, np.shape(place))  # an error now, not later

        def store():
            with np.errstate(all="ignore"):
                target[host_key] = host

        streams.submit(store, blocks(self, value))

    def fill(self, value):
        host = operand(value)
        if np.ndim(host):
            raise ValueError("non-scalar arrays cannot be used for fill")
        streams.submit(lambda: self._a.fill(host[()] if isinstance(host, np.ndarray) else host), [self._mem.block])

    def copy(self, order="C"):
        return compute(lambda: self._a.copy(order), [self], views=False)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return compute(lambda: self._a.astype(dtype, order=order, casting=casting or "unsafe"), [self], views=False)

    def reshape(self, *shape, order="C", copy=None):
        return compute(lambda: self._a.reshape(*shape, order=order), [self])

    def ravel(self, order="C"):
        return compute(lambda: self._a.ravel(order), [self])

    def flatten(self, order="C"):
        return compute(lambda: self._a.flatten(order), [self], views=False)

    def transpose(self, *axes):
        return self._view(self._a.transpose(*axes), self)

    def swapaxes(self, axis1, axis2):
        return self._view(self._a.swapaxes(axis1, axis2), self)

    def squeeze(self, axis=None):
        return self._view(self._a.squeeze(axis), self)

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return self._view(self._a.diagonal(offset, axis1, axis2), self)

    def view(self, dtype=None, type=None):
        return self._view(self._a.view() if dtype is None else self._a.view(dtype), self)

    def put(self, indices, values, mode="wrap"):
        host_indices, host_values = operand(indices), operand(values)
        streams.submit(lambda: self._a.put(host_indices, host_values, mode), blocks(self, indices, values))

    def sort(self, axis=-1, kind=None):
        streams.submit(lambda: self._a.sort(axis), [self._mem.block])

    # -- NumPy's functions on it

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from tests.stand_in.modules import words

        if method != "__call__" or ufunc.__name__ not in words:
            return NotImplemented
        out = kwargs.pop("out", None)
        for value in inputs + (out or ()):
            if value is not None and not isinstance(value, (ndarray, *SCALARS)):
                return NotImplemented
        if out is not None:
            kwargs["out"] = out[0] if len(out) == 1 else out
        return words[ufunc.__name__](*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        from tests.stand_in.modules import words

        if not all(issubclass(t, ndarray) for t in types) or function.__name__ not in words:
            return NotImplemented
        return words[function.__name__](*args, **kwargs)


def operand(value):
    """Return the host array behind an operand; scalars as they are."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def arrays_in(value):
    """Yield the device arrays in nested arguments; refuse NumPy arrays."""
    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from arrays_in(part)


def blocks(*values):
    return [array._mem.block for array in arrays_in(values)]


def host(value):
    """Return nested arguments with the host arrays in place of the device's."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, (tuple, list)):
        return type(value)(host(part) for part in value)
    return value


def _key(key):
    """Return (index for the host array, whether it makes a view)."""
    parts = key if isinstance(key, tuple) else (key,)
    result, basic = [], True
    for part in parts:
        if isinstance(part, ndarray):
            if part.dtype == bool:
                streams.refuse_to_be_recorded()  # the size of the result depends on values
                streams.wait_for_host()
            elif part.dtype.kind not in "iu":
                raise IndexError("arrays used as indices must be of integer or boolean type")
            result.append(part._a)
            basic = False
        elif isinstance(part, BASIC) and not isinstance(part, bool):
            result.append(part)
        elif isinstance(part, list):
            streams.refuse_to_be_recorded(what="H2D transfers")
            result.append(np.asarray(part, np.intp if not part else None))
            basic = False
        else:
            raise TypeError(f"index: expected integers, slices or arrays of the device, got {type(part).__name__}")
    return (tuple(result) if isinstance(key, tuple) else result[0]), basic


def _dry(value):
    """Return nested arguments with zeros in place of integers that may not be there yet, to learn a result's shape."""
    if isinstance(value, (tuple, list)):
        return type(value)(_dry(part) for part in value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and streams.deferred():
        return np.zeros_like(value)
    return value


def fresh(shape, dtype, strides=None):
    """Return a new array; `strides` of an array without gaps."""
    return ndarray(shape, dtype, strides=strides if strides and all(s > 0 for s in strides) else None)


def compute(function, inputs, views=True, dry=None):
    """Return what `function`, a function without effects on host arrays, gives, as device arrays.

    Results that are views of an input stay views; others are copied to memory of the device. `dry` gives
    results of the same shapes and types, whatever numbers are in the inputs.
    """
    targets, later = [], streams.deferred()

    def wrap(value):
        if isinstance(value, (tuple, list)):
            return [wrap(part) for part in value] if isinstance(value, list) else tuple(wrap(part) for part in value)
        value = np.asarray(value)
        if value.dtype.char not in KINDS:
            raise TypeError(f"results of type {value.dtype} cannot be on the device")
        if views:
            for array in inputs:
                if np.may_share_memory(value, array._a) and value.size:
                    targets.append(None)
                    return ndarray._view(value, array)
        result = fresh(value.shape, value.dtype,
                       value.strides if value.flags.f_contiguous and not value.flags.c_contiguous else None)
        targets.append(result._a)
        if not later:
            result._a[...] = value
        return result

    with np.errstate(all="ignore"):
        result = wrap((dry if later and dry else function)())
    if later:
        new = [target for target in targets if target is not None]
        if new:
            def again():
                with np.errstate(all="ignore"):
                    values = list(_leaves(function()))
                for target, value in zip(targets, values):
                    if target is not None:
                        target[...] = value

            streams.submit(again, blocks(*inputs, result))
    return result


def _leaves(value):
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def write(function, out, inputs, dry=None):
    """Do `function(out on the host)`, which writes `out` from `inputs`; `dry` as in `compute`."""
    if streams.deferred():
        with np.errstate(all="ignore"):
            (dry or function)(host(_copies(out)))  # shapes and types are checked now

    def act():
        with np.errstate(all="ignore"):
            function(host(out))

    streams.submit(act, blocks(out, *inputs))


def _copies(out):
    if isinstance(out, tuple):
        return tuple(_copies(part) for part in out)
    return out._a.copy()


def ufunc(name):
    """Return CuPy's ufunc of this name."""
    function = getattr(np, name)

    def call(*args, out=None, dtype=None, casting=None):
        if casting == "unsafe":
            raise TypeError("casting='unsafe' is not used with ufuncs here")
        if isinstance(out, tuple) and len(out) == 1:
            out = out[0]
        if isinstance(function, np.ufunc) and len(args) > function.nin:
            args, out = args[: function.nin], args[function.nin]
        values = [operand(value) for value in args]
        extra = {} if dtype is None else {"dtype": dtype}
        inputs = [value for value in args if isinstance(value, ndarray)]
        if out is not None:
            for one in out if isinstance(out, tuple) else (out,):
                if not isinstance(one, ndarray):
                    raise TypeError("return arrays must be of ArrayType")
            write(lambda target: function(*values, out=target, **extra), out, inputs)
            return out
        return compute(lambda: function(*values, **extra), inputs, views=False)

    call.__name__ = name
    return call


def _operators():
    from_ufunc = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "pow": "power",
                  "floordiv": "floor_divide", "mod": "remainder", "and": "bitwise_and", "or": "bitwise_or",
                  "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift"}

    def usable(other):
        return isinstance(other, (ndarray, np.ndarray, *SCALARS))

    def binary(call, reverse=False):
        def method(self, other):
            if not usable(other):
                return NotImplemented
            return call(other, self) if reverse else call(self, other)
        return method

    def unary(call):
        return lambda self: call(self)

    def in_place(call):
        def method(self, other):
            return call(self, other, out=self) if usable(other) else NotImplemented
        return method

    for short, name in from_ufunc.items():
        call = ufunc(name)
        setattr(ndarray, f"__{short}__", binary(call))
        setattr(ndarray, f"__r{short}__", binary(call, reverse=True))
        setattr(ndarray, f"__i{short}__", in_place(call))
    for short, name in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
                        "ne": "not_equal"}.items():
        setattr(ndarray, f"__{short}__", binary(ufunc(name)))
    for short, name in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
        setattr(ndarray, f"__{short}__", unary(ufunc(name)))
    def product(a, b):
        from tests.stand_in import blas

        blas.refuse_to_be_recorded()
        return compute(lambda: operand(a) @ operand(b), [a, b], views=False)

    ndarray.__matmul__ = binary(product)


_operators()
