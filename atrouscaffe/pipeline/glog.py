"""Log lines as Caffe's logger writes them, which is what scripts that parse Caffe's logs read.

A line is ``I0131 23:59:59.123456  4711 solver.cpp:218] Iteration 20, loss = 0.5``: severity, month and
day, time, process, place. ``GLOG_minloglevel`` in the environment silences, as glog does: 1 leaves
warnings, 2 errors.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading

__all__ = ["info", "set_level", "warning"]

_PLACES = (("Iteration", "solver.cpp:218"), ("    Train net", "solver.cpp:237"), ("    Test net", "solver.cpp:397"),
           ("    [", "net.cpp:537"), ("Optimization", "caffe.cpp:259"))
_level: int | None = None


def set_level(level: int | None) -> None:
    """Write only lines of at least this severity (0 info, 1 warning, 2 error); None asks ``GLOG_minloglevel``."""
    global _level
    _level = level


def _wanted(severity: int) -> bool:
    if _level is not None:
        return severity >= _level
    text = os.environ.get("GLOG_minloglevel", "0")  # noqa: SIM112  (glog's own spelling)
    return severity >= (int(text) if text.isdigit() else 0)


def _write(letter: str, message: str, place: str) -> None:
    now = datetime.datetime.now()
    head = f"{letter}{now:%m%d %H:%M:%S.%f} {threading.get_native_id():5d} {place}] "
    print("\n".join(head + line for line in message.split("\n")), file=sys.stderr, flush=True)


def info(message: str, place: str = "") -> None:
    """Write a line of information to standard error."""
    if _wanted(0):
        found = next((name for start, name in _PLACES if message.startswith(start)), "caffe.cpp:1")
        _write("I", message, place or found)


def warning(message: str, place: str = "caffe.cpp:1") -> None:
    """Write a warning to standard error."""
    if _wanted(1):
        _write("W", message, place)
