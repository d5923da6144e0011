"""Files that are whole or not there: written beside, flushed, renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from atrouscaffe.errors import FileAccessError
from atrouscaffe.formats import written

__all__ = ["atomic_path", "atomic_write"]


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block ends well.

    For libraries that open files by name. The temporary file is flushed to the disk before the
    rename and the folder after it; if the block raises, it is removed and `path` stays as it was.

    Raises
    ------
    FileAccessError
        The folder is missing or may not be written; the file may not be written over (`formats.written`).
    """
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        raise FileAccessError(f"cannot write {path}: there is no folder {folder}")
    if path.is_dir():
        raise FileAccessError(f"cannot write {path}: it is a folder")
    written.check(path)
    temporary = folder / f".{path.name[:100]}.{secrets.token_hex(6)}.tmp"
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        written.check(path)  # it may have come meanwhile
        written.record(path, temporary)
        os.replace(temporary, path)
        _sync_folder(folder)
    except OSError as error:
        _remove(temporary)
        if isinstance(error, FileAccessError):
            raise
        raise FileAccessError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        _remove(temporary)
        raise


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that becomes `path` when the block ends well; see `atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
