"""What may be written over: never an input, and of what exists only what this program wrote itself.

The command line enters `guarding`; from then on every file of `formats.atomic` is checked before it is
begun and once more before it gets its name. What was written is noted in a manifest beside it
(`MANIFEST`), with size, time and a digest, so that a later run may replace its own results and
nothing else: a result that somebody has edited since is no longer this program's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from atrouscaffe.errors import FileAccessError

__all__ = ["MANIFEST", "check", "guarding", "protect", "record"]

MANIFEST = ".atrouscaffe-written.jsonl"
"""Lines of JSON: name, size, mtime_ns, blake2b; a file that fits any line of its name is ours."""
DIGESTED = 2**26
"""Larger files are known by size and time alone."""
LONGEST = 2**26
_active: _Guard | None = None


class _Guard:
    """Inputs by device and inode, and the manifests of the folders written to."""

    def __init__(self, overwrite: bool) -> None:
        self.overwrite = overwrite
        self.inputs: dict[tuple[int, int], str] = {}
        self.manifests: dict[Path, dict[str, list[Any]]] = {}
        self.lock = threading.Lock()

    def known(self, folder: Path) -> dict[str, list[Any]]:
        """Return what a folder's manifest says, by name; damaged lines count as not there."""
        if folder not in self.manifests:
            found: dict[str, list[Any]] = {}
            path = folder / MANIFEST
            if path.is_file() and path.stat().st_size <= LONGEST:
                for line in path.read_bytes().splitlines():
                    with contextlib.suppress(ValueError, TypeError, KeyError):  # a line cut off by a kill
                        entry = json.loads(line)
                        written = entry["size"], entry["mtime_ns"], entry["blake2b"]
                        found.setdefault(entry["name"], []).append(written)
            self.manifests[folder] = found
        return self.manifests[folder]


@contextlib.contextmanager
def guarding(overwrite: bool = False, inputs: Iterable[str | os.PathLike] = ()) -> Iterator[None]:
    """Guard files of this process while the block runs.

    Parameters
    ----------
    overwrite : bool
        Let results replace files that this program did not make; inputs are safe all the same.
    inputs : iterable of path
        Those that exist are inputs; see `protect`.
    """
    global _active
    before, _active = _active, _Guard(overwrite)
    try:
        protect(inputs)
        yield
    finally:
        _active = before


def protect(inputs: Iterable[str | os.PathLike]) -> None:
    """Let no result replace these files, under whatever name; those that do not exist are passed over."""
    if _active is None:
        return
    for path in inputs:
        with contextlib.suppress(OSError, ValueError):  # reading it will say what is wrong with it
            info = os.stat(path)
            _active.inputs.setdefault((info.st_dev, info.st_ino), os.fspath(path))


def check(path: Path) -> None:
    """Raise FileAccessError where `path` is an input, or exists and was not made by this program."""
    guard = _active
    if guard is None:
        return
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return
    given = guard.inputs.get((info.st_dev, info.st_ino))
    if given is not None:
        raise FileAccessError(f"cannot write {path}: it is the input {given}; name another place for the results")
    if not guard.overwrite and not _is_ours(guard, path, info):
        raise FileAccessError(f"cannot write {path}: a file that this program did not make, or that was changed since, "
                              "stands there; name another place, or give --overwrite")


def record(path: Path, temporary: Path | None = None) -> None:
    """Note that this program has written `path`, or is about to: what `temporary` holds gets that name next.

    Noted before the rename, a run that is killed between the two still knows its result.
    """
    guard = _active
    if guard is None:
        return
    source = path if temporary is None else temporary
    info = os.stat(source)
    entry = {"name": path.name, "size": info.st_size, "mtime_ns": info.st_mtime_ns, "blake2b": _digest(source, info)}
    with guard.lock:
        written = entry["size"], entry["mtime_ns"], entry["blake2b"]
        guard.known(path.parent.resolve()).setdefault(path.name, []).append(written)
        with open(path.parent / MANIFEST, "ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")


def _is_ours(guard: _Guard, path: Path, info: os.stat_result) -> bool:
    with guard.lock:
        entries = [e for e in guard.known(path.parent.resolve()).get(path.name, ()) if e[0] == info.st_size]
    if not entries or any(mtime == info.st_mtime_ns for _, mtime, _ in entries):
        return bool(entries)
    digest = _digest(path, info)
    return digest is not None and any(known == digest for _, _, known in entries)


def _digest(path: Path, info: os.stat_result) -> str | None:
    if info.st_size > DIGESTED:
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
