"""How much memory may be taken where nobody said how much."""

from __future__ import annotations

import os

from atrouscaffe.errors import ArgumentError

__all__ = ["default_budget"]


def default_budget() -> int:
    """Return how many bytes one piece of work may take.

    ``ATROUSCAFFE_MEMORY_BUDGET`` (bytes), else 0.9 of this machine's memory.

    Raises
    ------
    ArgumentError
        The variable is no positive whole number.
    """
    text = os.environ.get("ATROUSCAFFE_MEMORY_BUDGET")
    if text:
        if not text.isdigit() or int(text) < 1:
            raise ArgumentError(f"ATROUSCAFFE_MEMORY_BUDGET: expected a number of bytes, got {text!r}")
        return int(text)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return int(0.9 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return 8 << 30
