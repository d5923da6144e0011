"""Kernels: the text given to ``RawModule``, compiled by g++ and run on the CPU.

A library is kept on disk under a name made of all that it depends on: text, header, options, compiler.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

from tests.stand_in import streams
from tests.stand_in.arrays import SCALARS, ndarray
from tests.stand_in.errors import CompileException, CUDADriverError, Fault
from tests.stand_in.memory import device

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "tests" / "kernel_stand_in.h"
CACHE = ROOT / ".pytest_cache" / "stand-in"
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off",
         "-DSTAND_IN", f"-I{HEADER.parent / 'stand_in' / 'include'}", "-Wall", "-Wextra", "-Werror",
         "-Wno-unknown-pragmas", "-Wno-psabi")
KEPT = 500  # libraries
STACK = 64 << 10
DEFAULT_SHARED, MOST_SHARED = 48 << 10, 227 << 10
KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\(([^)]*)\)\s*)?(\w+)\s*\(([^)]*)\)')
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_lock = threading.Lock()


class _Launch(ctypes.Structure):
    """StandInLaunch of the header."""

    _fields_ = [("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("seed", ctypes.c_uint64),
                ("shared", ctypes.c_uint64), ("dynamic", ctypes.c_void_p), ("stacks", ctypes.c_void_p),
                ("stack", ctypes.c_uint64), ("message", ctypes.c_char * 1024)]


@functools.cache
def _stacks():
    return mmap.mmap(-1, 1024 * STACK), mmap.mmap(-1, MOST_SHARED + 4096)


@functools.cache
def compiler():
    """Return (path, version) of g++, or None."""
    path = shutil.which(os.environ.get("CXX", "g++"))
    if path is None:
        return None
    return path, subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]


@functools.cache
def header_digest():
    return hashlib.sha256(HEADER.read_bytes()).hexdigest()


def build(code, options=(), extra=()):
    """Return the path of the library made of `code`; `options` are NVRTC's.

    Raises
    ------
    CompileException
    """
    found = compiler()
    if found is None:
        raise Fault("the stand-in needs a C++ compiler (g++)")
    for option in options:
        if not option.startswith(("-D", "--std=", "-std=", "--fmad=", "-lineinfo", "--generate-line-info")):
            raise Fault(f"the stand-in does not know the option {option!r}")
    flags = [*FLAGS, *(option for option in options if option.startswith("-D")), *extra]
    names = [name for _, name, _ in KERNEL.findall(COMMENT.sub(" ", code))]
    source = "namespace {\n#line 1 \"kernels\"\n" + code + "\n}\n" + "".join(f"STAND_IN_KERNEL({n})\n" for n in names)
    key = hashlib.sha256("\0".join([source, header_digest(), *flags, *found]).encode()).hexdigest()[:32]
    library = CACHE / f"{key}.so"
    if library.exists():
        return library
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in sorted(CACHE.glob("*.so"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        text, made = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        text.write_text(source, encoding="utf-8")
        done = subprocess.run([found[0], *flags, "-include", str(HEADER), str(text), "-o", str(made)],
                              capture_output=True, text=True)
        if done.returncode:
            raise CompileException(done.stderr, code, "kernels", tuple(options), "g++")
        os.replace(made, library)
    return library


class RawModule:
    """``cupy.RawModule``: compiled when the first kernel is asked for."""

    def __init__(self, code=None, *, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
                 enable_cooperative_groups=False, name_expressions=None, jitify=None):
        if code is None or path is not None:
            raise Fault("the stand-in needs the text of the kernels")
        if backend != "nvrtc" or name_expressions or enable_cooperative_groups or translate_cucomplex or jitify:
            raise Fault("the stand-in knows plain NVRTC modules only")
        if not isinstance(options, tuple):
            raise TypeError("options must be a tuple")
        self.code, self.options, self.backend = code, options, backend

    @functools.cached_property
    def _library(self):
        return ctypes.CDLL(str(build(self.code, self.options)), mode=os.RTLD_LOCAL | os.RTLD_NOW)

    def compile(self, log_stream=None):
        _ = self._library

    def get_function(self, name):
        for bounds, found, parameters in KERNEL.findall(COMMENT.sub(" ", self.code)):
            if found == name:
                return RawKernel(self._library, name, bounds, parameters)
        raise CUDADriverError(500, "CUDA_ERROR_NOT_FOUND: named symbol not found")


class RawKernel:
    """One kernel; called as CuPy's."""

    def __init__(self, library, name, bounds, parameters):
        self.name, self._most_shared = name, DEFAULT_SHARED
        self._run = getattr(library, f"stand_in_run_{name}")
        sizes = (ctypes.c_int * 256)()
        count = getattr(library, f"stand_in_describe_{name}")(sizes)
        self._sizes = list(sizes[:count])  # below 0: pointers; 100 more: floating point
        texts = [text for text in parameters.split(",") if text.strip()]
        self._names = [re.findall(r"\w+", text)[-1] for text in texts]
        self._read_only = [bool(re.search(r"\bconst\b[^*]*\*", text)) for text in texts]
        self._alone = ["__restrict__" in text for text in texts]
        limit = bounds.split(",")[0].strip()
        self.max_threads_per_block = int(limit) if limit.isdigit() else 1024

    @property
    def max_dynamic_shared_size_bytes(self):
        return self._most_shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value):
        if not 0 <= value <= MOST_SHARED:
            raise CUDADriverError(1)
        self._most_shared = value

    def __call__(self, grid, block, args, *, shared_mem=0):
        grid, block = self._sizes_of(grid, (2**31 - 1, 65535, 65535)), self._sizes_of(block, (1024, 1024, 64))
        threads = block[0] * block[1] * block[2]
        if threads > 1024:
            raise CUDADriverError(1)
        if threads > self.max_threads_per_block:
            raise CUDADriverError(701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch")
        if shared_mem > self._most_shared:
            raise CUDADriverError(1)
        arrays = [(i, value) for i, value in enumerate(args) if isinstance(value, ndarray)]
        cells = self._pack(args)
        self._check_overlap(arrays)
        blocks = [value._mem.block for _, value in arrays]
        device.launches += 1
        seed = device.launches
        streams.submit(lambda: self._start(grid, block, cells, int(shared_mem), blocks, seed), blocks)

    def _sizes_of(self, sizes, limits):
        if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= 3:
            raise TypeError("grid and block: expected tuples of up to three sizes")
        if not all(isinstance(n, (int, np.integer)) for n in sizes):
            raise TypeError("grid and block: expected integers")
        sizes = tuple(int(n) for n in sizes) + (1,) * (3 - len(sizes))
        if any(not 1 <= n <= limit for n, limit in zip(sizes, limits)):
            raise CUDADriverError(1)
        return sizes

    def _pack(self, args):
        """Return the bytes of every argument, as CuPy hands them over."""
        if not isinstance(args, tuple):
            raise TypeError("args must be a tuple")
        if len(args) != len(self._sizes):
            raise Fault(f"kernel {self.name}: {len(self._sizes)} parameters, {len(args)} arguments")
        cells = []
        for value, size, name in zip(args, self._sizes, self._names):
            where = f"kernel {self.name}, parameter {name}"
            if isinstance(value, ndarray):
                cell, kind = np.uint64(value.data.ptr), "pointer"
            elif isinstance(value, SCALARS):
                cell = value if isinstance(value, np.generic) else np.asarray(value)[()]
                kind = "pointer" if size < 0 and cell.dtype == np.uint64 and not cell else cell.dtype.kind
            else:
                raise TypeError(f"Unsupported type {type(value)}")
            wanted = ("pointer",) if size < 0 else ("f",) if size >= 100 else ("i", "u", "b")
            if kind not in wanted or cell.dtype.itemsize != abs(size) % 100:
                needed = "an array" if size < 0 else f"{size % 100} bytes of kind {wanted[0]}"
                raise Fault(f"{where}: expected {needed}, got {'an array' if kind == 'pointer' else cell.dtype}")
            cells.append(np.array([cell]))
        return cells

    def _check_overlap(self, arrays):
        """Refuse what ``__restrict__`` forbids: memory that is written through one pointer and used through another."""
        ranges = [(i, value.data.ptr, value.nbytes) for i, value in arrays]
        for i, start, nbytes in ranges:
            for j, other, others in ranges:
                if i < j and start < other + others and other < start + nbytes and (self._alone[i] or self._alone[j]) \
                        and not (self._read_only[i] and self._read_only[j]):
                    raise Fault(f"kernel {self.name}: {self._names[i]} and {self._names[j]} overlap, and are declared "
                                "__restrict__")

    def _start(self, grid, block, cells, shared, blocks, seed):
        with _lock:
            stacks, dynamic = _stacks()
            launch = _Launch(grid, block, seed, shared, ctypes.addressof(ctypes.c_char.from_buffer(dynamic)),
                             ctypes.addressof(ctypes.c_char.from_buffer(stacks)), STACK)
            pointers = (ctypes.c_void_p * max(1, len(cells)))(*(cell.ctypes.data for cell in cells))
            failed = self._run(ctypes.byref(launch), pointers)
        if failed:
            raise Fault(f"kernel {self.name}: {launch.message.decode()}")
        device.check_guards(f"kernel {self.name}", blocks)
