"""What a terminal's user is told of work that takes longer than a second: a progress line, a notice."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

__all__ = ["Progress", "compile_notice"]

NOTICE = ("atrouscaffe: compiling, as the first run on a machine must; later ones find it done (atrouscaffe warmup "
          "does it ahead)")
PATIENCE = 3.0
"""Seconds of compiling before a log gets its line."""


class Progress:
    """Writes ``done/total`` with the time left, over and over on one line.

    Nothing is written in the first second, nor where stderr is no terminal; the line is wiped at the
    end.

    Parameters
    ----------
    total : int
        0 where it is not known.
    what : str
        Unit, in the plural.
    """

    def __init__(self, total: int, what: str = "images") -> None:
        self.total, self.what = total, what
        self.begin = time.monotonic()
        self._last, self._width = 0.0, 0

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` are done, with a note behind."""
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self.begin < 1 or (now - self._last < 0.1 and done != self.total):
            return
        self._last = now
        text = f"{done} {self.what}"
        if self.total:
            left = (now - self.begin) / max(1, done) * (self.total - done)
            bar = "#" * (20 * done // self.total)
            text = f"[{bar:<20}] {done}/{self.total} {self.what}, {_clock(left)} left"
        text = f"{text}{', ' if note else ''}{note}"
        print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def close(self) -> None:
        """Wipe the line."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
        self._width = 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def compile_notice(interval: float = 0.5) -> Iterator[None]:
    """Say once, while the body runs, that functions are being compiled.

    Functions that are found on disk load in no time and are not worth a word. Where stderr is no terminal a line is
    written, once compiling has taken `PATIENCE` seconds.

    Parameters
    ----------
    interval : float
        Seconds between two looks.
    """
    if sys.stderr is None:
        yield
        return
    over, terminal, begin = threading.Event(), sys.stderr.isatty(), time.monotonic()

    def look() -> None:
        while not over.wait(interval):
            jit = sys.modules.get("atrouscaffe.runtime.jit")  # not imported for its sake: not every command computes
            counts = getattr(jit, "counts", dict)
            try:
                compiled = sum(compiled for compiled, _ in counts().values())
            except RuntimeError:  # a function was added meanwhile: look again
                continue
            if compiled and (terminal or time.monotonic() - begin > PATIENCE):
                print(f"\r\033[K{NOTICE}" if terminal else NOTICE, file=sys.stderr, flush=True)
                return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
