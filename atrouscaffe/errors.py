"""The errors that users meet, and the place they are blamed on.

::

    AtrousCaffeError
    ├── PrototxtError   (ValueError)         text or binary net/solver definition
    ├── WeightsError    (ValueError)         caffemodel, HDF5, mean file
    ├── GraphError      (ValueError)         how layers are wired
    ├── NetBusyError    (RuntimeError)       a net that a second thread entered during a pass
    ├── ShapeError      (ValueError)         blob or parameter of the wrong shape
    ├── LayerError      (ValueError)         a layer's options
    ├── DataError       (ValueError)         images, lists, labels, databases
    ├── SolverError     (ValueError)         solver options and snapshots
    ├── ArgumentError   (ValueError)         an argument of a public function or command
    ├── NameNotFoundError (KeyError)         a blob or layer that the net does not have
    ├── FileMissingError (FileNotFoundError) a path that is not there
    ├── FileAccessError (OSError)            a path that cannot be read or written
    ├── BudgetError     (MemoryError)        more memory than was allowed
    ├── DeviceError     (RuntimeError)       a device that is missing or fails
    └── DependencyError (ImportError)        an optional package that is missing

Every message is one paragraph: what was expected, what came, where, what to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ArgumentError",
    "AtrousCaffeError",
    "BudgetError",
    "DataError",
    "DependencyError",
    "DeviceError",
    "FileAccessError",
    "FileMissingError",
    "GraphError",
    "LayerError",
    "NameNotFoundError",
    "NetBusyError",
    "PrototxtError",
    "ShapeError",
    "SolverError",
    "Source",
    "WeightsError",
    "blame",
    "nearest",
]


@dataclass(frozen=True)
class Source:
    """Where something was written: file, line and column (from 1; 0 when unknown)."""

    path: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.path or "<text>"]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)


class AtrousCaffeError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message : str
        One paragraph: expected, got, what to do.
    where : str, optional
        Place in front of the message, such as ``net.prototxt:12: layer 'fc6' (Convolution)``.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(str(message).split())
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class PrototxtError(AtrousCaffeError, ValueError):
    """A net or solver definition that does not parse or contradicts itself."""


class WeightsError(AtrousCaffeError, ValueError):
    """A weight or mean file that cannot be read or does not fit the net."""


class GraphError(AtrousCaffeError, ValueError):
    """Layers that are wired wrongly: unknown bottom, duplicate top, cycle."""


class NetBusyError(AtrousCaffeError, RuntimeError):
    """A net that a second thread entered while a pass of the first one ran."""


class ShapeError(AtrousCaffeError, ValueError):
    """A blob or parameter whose shape is not the one required."""


class LayerError(AtrousCaffeError, ValueError):
    """A layer whose options are missing, contradictory or not supported."""


class DataError(AtrousCaffeError, ValueError):
    """An image, list, label map or database that cannot be used."""


class SolverError(AtrousCaffeError, ValueError):
    """Solver options or snapshots that cannot be used."""


class ArgumentError(AtrousCaffeError, ValueError):
    """An argument of a public function or command that is out of range or of the wrong kind."""


class NameNotFoundError(AtrousCaffeError, KeyError):
    """A blob or layer name that the net does not have."""

    __str__ = AtrousCaffeError.__str__


class FileMissingError(AtrousCaffeError, FileNotFoundError):
    """A path that does not exist."""

    __str__ = AtrousCaffeError.__str__


class FileAccessError(AtrousCaffeError, OSError):
    """A path that exists but cannot be read, written or entered."""

    __str__ = AtrousCaffeError.__str__


class BudgetError(AtrousCaffeError, MemoryError):
    """A request for more memory than the budget allows; nothing was allocated."""


class DeviceError(AtrousCaffeError, RuntimeError):
    """A device that was asked for and is missing, or fails."""


class DependencyError(AtrousCaffeError, ImportError):
    """An optional package that is not installed; the message says how to install it."""

    __str__ = AtrousCaffeError.__str__


@contextlib.contextmanager
def blame(spec: Any) -> Iterator[None]:
    """Add the place of a layer to errors that pass through.

    Parameters
    ----------
    spec : LayerSpec
        Anything with ``name``, ``type`` and ``source``. An error that already knows its place
        is left alone, so the innermost caller wins.

    Raises
    ------
    AtrousCaffeError
        The one that passes through, with ``where`` filled in. A plain ``MemoryError`` from an
        allocation becomes a `BudgetError`.
    """
    place = f"layer '{spec.name}' ({spec.type})"
    if spec.source is not None:
        place = f"{spec.source}: {place}"
    try:
        yield
    except AtrousCaffeError as error:
        if not error.where:
            error.where = place
        raise
    except MemoryError as error:
        raise BudgetError(f"out of memory: {error or 'an allocation failed'}; "
                          "use a smaller input or batch, or keep fewer blobs", place) from error


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return what to add to an error about an unknown name: the nearest known one, or "".

    Parameters
    ----------
    word : str
    known : iterable of str
    cutoff : float
        Least similarity, from 0 to 1.

    Examples
    --------
    >>> nearest("segmnt", ["segment", "crf"])
    "; the nearest name is 'segment'"
    """
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; the nearest name is {near[0]!r}" if near else ""
