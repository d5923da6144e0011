"""Work done ahead in threads, handed out in order."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Prefetch"]

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Calls ``load(index, row(index))`` for index = start, start+1, … ahead of time.

    Results come in order whatever the number of workers, and an error comes when its turn comes.
    `load` must depend on its arguments alone (draw random numbers from a generator seeded by them),
    so results are the same for any number of workers.

    Parameters
    ----------
    load : callable of (int, int)
        Runs in a worker thread; decoders release the GIL.
    row : callable of int
        What an index stands for; runs in the caller's thread.
    start : int
        First index.
    ahead : int
        How many results may wait, at most; 0 loads when asked, in the caller's thread.
    workers : int
    """

    def __init__(self, load: Callable[[int, int], T], row: Callable[[int], int], start: int = 0, *, ahead: int = 8,
                 workers: int = 2) -> None:
        self.load = load
        self.row = row
        self.position = start
        self.ahead = ahead if workers > 0 else 0
        self.workers = workers
        self._waiting: collections.deque[Future[T]] = collections.deque()
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def take(self) -> T:
        """Return the next result; raises what `load` raised for it."""
        if self.ahead == 0:
            self.position += 1
            return self.load(self.position - 1, self.row(self.position - 1))
        if self._process != os.getpid():  # a forked child has none of the parent's threads
            self._waiting.clear()
            self._pool, self._process = None, os.getpid()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="atrouscaffe-data")
        while len(self._waiting) <= self.ahead:
            index = self.position + len(self._waiting)
            self._waiting.append(self._pool.submit(self.load, index, self.row(index)))
        future = self._waiting.popleft()
        self.position += 1
        return future.result()

    def close(self) -> None:
        """Drop what waits and let the threads end."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
