"""A device that is not there: a module ``cupy`` that runs the kernels on the CPU.

>>> with stand_in():
...     net = Net(..., device="cuda")

While the context is open, ``import cupy`` gives the stand-in; it knows what CuPy 14.2 knows, as far as the
engine uses it, and refuses what CuPy refuses. Kernels are compiled by g++ with tests/kernel_stand_in.h.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

from atrouscaffe.runtime import cublas as engine
from tests.stand_in import blas, memory, modules, streams
from tests.stand_in.errors import Fault
from tests.stand_in.kernel import compiler

__all__ = ["Fault", "missing", "stand_in"]


def missing() -> str:
    """Return why the stand-in cannot be used here, or ""."""
    return "" if compiler() else "the stand-in needs a C++ compiler (g++)"


def _forget() -> None:
    """Empty the caches of the modules that hold on to ``cupy`` or to what it made."""
    for name, module in list(sys.modules.items()):
        if name.startswith("atrouscaffe.runtime.") or (name.startswith("atrouscaffe.") and name.endswith("_cuda")):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


@contextlib.contextmanager
def stand_in(total: int = 8 << 30, late: bool = False) -> Iterator[ModuleType]:
    """Put the stand-in in CuPy's place.

    Parameters
    ----------
    total : int
        Bytes of memory of the device.
    late : bool
        Do the work of the default stream, too, as late as CUDA allows; see `tests.stand_in.streams`.

    Raises
    ------
    Fault
        On leaving: memory outside of an array was written.
    """
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("cupy", "cupy_backends")}
    for name in before:
        del sys.modules[name]
    memory.device.reset(total)
    memory.allocators.reset()
    streams.reset(late)
    made = modules.make_modules()
    sys.modules.update(made)
    _forget()
    load_cublas, engine.load_cublas = engine.load_cublas, lambda wrapper: blas.LIBRARY
    try:
        yield made["cupy"]
        streams.finish()
        memory.device.check_guards("at the end")
    finally:
        for name in made:
            sys.modules.pop(name, None)
        sys.modules.update(before)
        engine.load_cublas = load_cublas
        _forget()
        streams.reset()
