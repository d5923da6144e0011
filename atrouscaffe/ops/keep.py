"""Values derived from weights (packed, transformed), kept until the weights change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Keep", "make_anew"]

Keep = Callable[[Any, Callable[[], Any]], Any]
"""Returns what is kept under a key, or makes it: derived from weights, valid until they change."""


def make_anew(key: Any, make: Callable[[], Any]) -> Any:
    """Keep nothing: return what `make` returns."""
    return make()
