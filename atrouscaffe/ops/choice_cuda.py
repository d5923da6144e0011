"""Which of several ways to the same result is fastest on a device: measured once, then remembered.

Ways differ in their rounding, so that a choice is kept on disk, by device, version and question: later
runs give the same bits. A file that cannot be read or written costs a measurement and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from atrouscaffe.errors import BudgetError
from atrouscaffe.runtime.cache import cache_base
from atrouscaffe.runtime.cuda import CudaBackend, Recording, milliseconds

__all__ = ["choose", "known_choice"]

VERSION = 1
"""Of the kernels and their plans: another number forgets what was measured."""

MOST_BYTES = 1 << 22  # of a choices file
_lock = threading.Lock()
_choices: dict[Path, dict[str, str]] = {}


def _file(backend: CudaBackend) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", backend.device_name.lower()).strip("-")
    return cache_base() / f"choices-{VERSION}-{name}.json"


def _read(path: Path) -> dict[str, str]:
    """Return the file's choices; none where it is missing, damaged or not a table of names."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)}


def known_choice(backend: CudaBackend, question: str) -> str | None:
    """Return what was chosen for `question`, None where nothing was."""
    path = _file(backend)
    with _lock:
        if path not in _choices:
            _choices[path] = _read(path)
        return _choices[path].get(question)


def choose(backend: CudaBackend, question: str, ways: Mapping[str, Callable[[], None]]) -> str:
    """Measure all `ways`, remember the fastest for `question` and return its name.

    They are timed as recorded graphs: else a short kernel's time would be that of its launch.

    Parameters
    ----------
    backend : CudaBackend
    question : str
        Names the work: operation, shapes, precision.
    ways : mapping of str to callable
        Each starts the whole work on the current stream.

    Raises
    ------
    BudgetError
        There is not memory enough for any of them; one that there is not enough for is left out, in this process.
    """
    times: dict[str, float] = {}
    lacking: BudgetError | None = None
    for name, work in ways.items():
        try:
            times[name] = milliseconds(Recording(backend, work).replay)
        except BudgetError as error:  # the others may do with less
            lacking = error
    if lacking is not None and not times:
        raise lacking
    best = min(times, key=lambda name: times[name])
    path = _file(backend)
    with _lock:
        _choices.setdefault(path, _read(path))[question] = best
        if lacking is not None:
            return best  # another time there may be more memory
        with contextlib.suppress(OSError):  # not kept: measured again by the next process
            path.parent.mkdir(parents=True, exist_ok=True)
            merged = {**_read(path), question: best}  # others may have written since
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                json.dump(merged, file, indent=0, sort_keys=True)
            os.replace(file.name, path)
    return best
