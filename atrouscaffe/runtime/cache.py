"""The folder in which this package keeps what it can make again: compiled functions, measured choices."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_base", "folder_size", "home"]


def home() -> Path:
    """Return the user's home, ``/`` for one without (a number that no user has, as in some containers)."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def cache_base() -> Path:
    """Return ``ATROUSCAFFE_CACHE_DIR``, else a folder in ``XDG_CACHE_HOME`` or ``~/.cache``; it may not exist yet."""
    named = os.environ.get("ATROUSCAFFE_CACHE_DIR")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "atrouscaffe"


def folder_size(folder: Path) -> tuple[int, int]:
    """Return (files, bytes) below a folder; files that vanish meanwhile are not counted."""
    count = size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.stat(os.path.join(root, name)).st_size
            except OSError:
                continue
            count += 1
    return count, size
