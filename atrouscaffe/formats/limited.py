"""The first bytes of a file, for readers that refuse more."""

from __future__ import annotations

from pathlib import Path

from atrouscaffe.errors import FileAccessError, FileMissingError

__all__ = ["read_at_most"]


def read_at_most(path: str | Path, count: int) -> bytes:
    """Return the first `count` bytes of a file, or all of them.

    Raises
    ------
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except FileNotFoundError:
        raise FileMissingError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise FileAccessError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
