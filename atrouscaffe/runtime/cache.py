"""The folder in which this package keeps what it can make again: compiled functions, measured choices."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_base"]


def cache_base() -> Path:
    """Return ``ATROUSCAFFE_CACHE_DIR``, else a folder in ``XDG_CACHE_HOME`` or ``~/.cache``; it may not exist yet."""
    named = os.environ.get("ATROUSCAFFE_CACHE_DIR")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atrouscaffe"
