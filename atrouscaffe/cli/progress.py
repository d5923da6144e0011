"""A progress line on stderr, for work that takes longer than a second."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]


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
