"""One pool of worker threads for everything this package computes on a CPU.

Compiled functions release the GIL and work on a range that they are given, so plain Python
threads run them side by side. Numba's own threading layers are not used: GNU OpenMP cannot be
entered after a fork, workqueue aborts the process when two threads enter it, and ``parallel=True``
costs seconds of compile time. How a job is cut never depends on the number of threads, so results
are the same bits for any number.

The number of threads is, in this order: `set_num_threads`, ``ATROUSCAFFE_NUM_THREADS``, the
processors this process may use.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from atrouscaffe.errors import ArgumentError

__all__ = ["chunks", "no_denormals", "num_threads", "parallel", "serial_blas", "set_num_threads"]

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_chosen: int | None = None
_inside = threading.local()
_blas_lock = threading.Lock()
_blas_depth = 0
_blas_limit: contextlib.ExitStack | None = None


def _after_fork() -> None:
    """Forget what the parent's threads were doing: they do not exist in the child."""
    global _lock, _blas_lock, _pool, _pool_size, _inside
    _lock, _blas_lock, _pool, _pool_size, _inside = threading.Lock(), threading.Lock(), None, 0, threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_threads() -> int:
    """Return how many threads computations use, at least 1.

    Raises
    ------
    ArgumentError
        ``ATROUSCAFFE_NUM_THREADS`` is not a positive whole number.
    """
    if _chosen is not None:
        return _chosen
    text = os.environ.get("ATROUSCAFFE_NUM_THREADS")
    if text:
        if not text.isdigit() or int(text) < 1:
            raise ArgumentError(f"ATROUSCAFFE_NUM_THREADS: expected a whole number of at least 1, got {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(n: int | None) -> None:
    """Set how many threads computations use; None returns to the default.

    Raises
    ------
    ArgumentError
        `n` is below 1.
    """
    global _chosen
    if n is not None and n < 1:
        raise ArgumentError(f"threads: expected at least 1, got {n}")
    _chosen = n


def _workers(n: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < n:
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _pool_size = ThreadPoolExecutor(n, thread_name_prefix="atrouscaffe"), n
        return _pool


def parallel(work: Callable[[int], object], count: int) -> None:
    """Call ``work(i)`` for i in 0 … count-1, spread over the threads.

    The caller works too, so this never waits for a free worker; a call from inside `work` runs
    serially. Calls that have not begun are dropped when one raises, and its error is raised here.

    Parameters
    ----------
    work : callable of int
        Must write to places of its own for each i, and should spend its time outside the GIL.
    count : int
    """
    helpers = min(num_threads(), count) - 1
    if helpers < 1 or getattr(_inside, "busy", False):
        for i in range(count):
            work(i)
        return
    counter = itertools.count()  # next() on it is atomic under the GIL
    flushes = getattr(_inside, "flushes", False)
    failed = threading.Event()

    def loop() -> None:
        _inside.busy = True
        try:
            if flushes and not getattr(_inside, "flushes", False):
                with no_denormals():
                    run()
            else:
                run()
        except BaseException:
            failed.set()
            raise
        finally:
            _inside.busy = False

    def run() -> None:
        for i in counter:
            if i >= count or failed.is_set():
                return
            work(i)

    futures = []
    for _ in range(helpers):
        try:
            futures.append(_workers(helpers).submit(loop))
        except RuntimeError:  # another thread replaced the pool, or the interpreter is going down
            break
    try:
        loop()
    finally:
        pending = [future for future in futures if not future.cancel()]
        errors = [error for error in (future.exception() for future in pending) if error is not None]
    if errors:
        raise errors[0]


@contextlib.contextmanager
def no_denormals() -> Iterator[None]:
    """Take numbers below the smallest normal one as 0 inside: in this thread, and in those that work for it."""
    from atrouscaffe.runtime.denormals_cpu import flush_denormals

    before, flushed = getattr(_inside, "flushes", False), flush_denormals(True)
    _inside.flushes = True
    try:
        yield
    finally:
        flush_denormals(flushed)
        _inside.flushes = before


def chunks(n: int, grain: int) -> list[tuple[int, int]]:
    """Cut ``range(n)`` into (start, stop) pieces of at most `grain`, whatever the number of threads."""
    return [(start, min(start + grain, n)) for start in range(0, n, max(1, grain))]


@contextlib.contextmanager
def serial_blas() -> Iterator[None]:
    """Keep BLAS to one thread inside: this package spreads matrix products over its own pool.

    Nested and concurrent uses share one limit; the caller's setting returns when the last leaves.
    """
    global _blas_depth, _blas_limit
    with _blas_lock:
        if _blas_depth == 0:
            _blas_limit = contextlib.ExitStack()
            _blas_limit.enter_context(_blas_controller().limit(limits=1, user_api="blas"))
        _blas_depth += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_depth -= 1
            if _blas_depth == 0 and _blas_limit is not None:
                _blas_limit.close()
                _blas_limit = None


_controller = None


def _blas_controller():
    global _controller
    if _controller is None:
        import numpy  # noqa: F401  (its BLAS must be loaded to be found)
        from threadpoolctl import ThreadpoolController

        _controller = ThreadpoolController()
    return _controller
