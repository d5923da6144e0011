"""The engine's errors as scripts written for pycaffe catch them.

pycaffe raises ``RuntimeError`` for files that are missing and for wrong arrays, ``ValueError`` for an
unknown layer name, ``KeyError`` for an unknown blob; much else ends the process. Here an error that
leaves `Net` or a solver is the engine's own class (so ``except PrototxtError`` works, and the text says
where) and the builtin that scripts expect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from atrouscaffe.errors import AtrousCaffeError, FileMissingError

__all__ = ["errors_also"]


_classes: dict[tuple[type, type], Any] = {}


def _joined(cls: type[AtrousCaffeError], builtin: type[Exception]) -> type[AtrousCaffeError]:
    """Return a subclass of both; it keeps the engine's name."""
    if (cls, builtin) not in _classes:
        _classes[cls, builtin] = type(cls.__name__, (cls, builtin), {
            "__module__": cls.__module__, "__str__": cls.__str__, "__doc__": cls.__doc__})
    return _classes[cls, builtin]


@contextlib.contextmanager
def errors_also(builtin: type[Exception] = RuntimeError) -> Iterator[None]:
    """Let the engine's errors that pass also be of the class `builtin`."""
    try:
        yield
    except AtrousCaffeError as error:
        if isinstance(error, builtin):
            raise
        opening = "Could not open file: " if isinstance(error, FileMissingError) else ""  # pycaffe's own words
        joined = _joined(type(error), builtin)(opening + error.message, error.where)
        raise joined.with_traceback(error.__traceback__) from None
