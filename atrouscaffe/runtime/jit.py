"""How functions are compiled: said once, here.

``@jit`` is Numba's ``njit`` with the GIL released, the on-disk cache in this package's own folder,
and no ``parallel=True`` (see `threads`). The folder's name carries a hash of every ``*_cpu.py``:
Numba itself notices only edits of the file that a function stands in. A folder that cannot be
written, and a damaged file in it, cost a recompilation and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import re
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.core.caching import FunctionCache

from atrouscaffe.runtime.cache import cache_base

__all__ = ["cache_folder", "counts", "jit"]

PACKAGE = Path(__file__).resolve().parent.parent
_cache_lock = threading.Lock()
_made: list[Any] = []


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder that compiled functions are kept in, or None where no folder can be written."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(PACKAGE.rglob("*_cpu.py")) + [Path(__file__)]:
        digest.update(source.read_bytes())
    folder = cache_base() / f"numba-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(f"compiled functions are not kept: {folder} cannot be written ({error.strerror}); every start "
                      "compiles again until ATROUSCAFFE_CACHE_DIR names a folder that can", RuntimeWarning,
                      stacklevel=2)
        return None
    return folder


class _TolerantCache(FunctionCache):
    """Numba's cache, for which a damaged or vanished file is a miss and a failed write no error."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError,
                TypeError, ValueError, RuntimeError, MemoryError):
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError,
                TypeError, ValueError, MemoryError):
            self._drop_index()

    def _drop_index(self) -> None:
        """Remove a damaged index so that the next save starts a fresh one."""
        try:
            os.unlink(self._cache_file._index_path)
        except (OSError, AttributeError):
            return


def jit(function: Callable | None = None, *, fastmath: bool | set = False, inline: str = "never",
        error_model: str = "numpy", boundscheck: bool = False) -> Callable:
    """Compile `function` on first call for the types it is called with; nogil, cached on disk.

    Parameters
    ----------
    function : callable
        A plain function; everything compiled that it calls stands in the same file.
    fastmath : bool or set of str
        LLVM's fast-math flags. Leave off where NaN or the order of additions matters.
    inline, error_model, boundscheck
        As in ``numba.njit``.
    """
    if function is None:
        return functools.partial(jit, fastmath=fastmath, inline=inline, error_model=error_model,
                                 boundscheck=boundscheck)
    if function.__closure__:
        # Numba links compiled functions by name and a number that starts anew in every process: two functions of one
        # factory, cached by different processes, would be taken for each other
        settings = "_".join(str(cell.cell_contents) for cell in function.__closure__)
        function.__qualname__ += "_" + re.sub(r"\W", "_", settings)
    compiled = numba.njit(function, nogil=True, fastmath=fastmath, inline=inline, error_model=error_model,
                          boundscheck=boundscheck)
    folder = cache_folder()
    if folder is not None:
        with _cache_lock:  # functions are also made in worker threads
            before = config.CACHE_DIR
            config.CACHE_DIR = str(folder)  # read when the cache is made, so nobody else's functions move
            try:
                compiled._cache = _TolerantCache(function)
            finally:
                config.CACHE_DIR = before
    _made.append(compiled)
    return compiled


def counts() -> dict[str, tuple[int, int]]:
    """Return, by module and name, how often a function was compiled in this process, and how often read from disk."""
    found: dict[str, tuple[int, int]] = {}
    for function in list(_made):
        name = f"{function.py_func.__module__.removeprefix('atrouscaffe.')}.{function.py_func.__name__}"
        stats, before = function.stats, found.get(name, (0, 0))
        found[name] = (before[0] + sum(stats.cache_misses.values()), before[1] + sum(stats.cache_hits.values()))
    return found
