"""Lists of files: DeepLab's ``image label`` lines, Caffe's ``image number`` lines, bare ids."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import NamedTuple

from atrouscaffe.data.image import read_bytes
from atrouscaffe.errors import DataError

__all__ = ["Entry", "atoi", "read_ids", "read_lines", "read_pairs"]

MAX_LIST_BYTES = 2**28
MAX_LINE_BYTES = 2**14


class Entry(NamedTuple):
    """One line of a list: image, label ("" where there is none), line number from 1."""

    image: str
    label: str
    line: int


def read_lines(path: str | os.PathLike) -> list[tuple[str, int]]:
    """Return the lines of a text file that are not blank, each with its number from 1.

    Raises
    ------
    FileMissingError, FileAccessError, DataError
        Missing, no text, larger than 256 MB, a line of more than 16 kB, or nothing but blank lines.
    """
    path = os.fspath(path)
    data = read_bytes(path, MAX_LIST_BYTES, "list of files")
    if b"\0" in data:
        raise DataError("expected a text file with one image a line, got a binary file", path)
    lines = []
    for number, raw in enumerate(data.splitlines(), 1):
        if len(raw) > MAX_LINE_BYTES:
            raise DataError(f"a line of {len(raw)} bytes; expected a path and a label in at most {MAX_LINE_BYTES}",
                            f"{path}:{number}")
        text = raw.decode("utf-8", "surrogateescape").strip()
        if text:
            lines.append((text.removeprefix("\ufeff"), number))
    if not lines:
        raise DataError("the list is empty; expected one image a line", path)
    return lines


def read_pairs(path: str | os.PathLike, *, spaces: bool = False) -> list[Entry]:
    """Return the lines of a list as image and label.

    Parameters
    ----------
    path : path
    spaces : bool
        False splits at any white space and takes the first two words, as ImageSegData does. True
        takes the last word as the label, so that image names may hold spaces, as ImageData does.
    """
    entries = []
    for text, number in read_lines(path):
        words = text.rsplit(maxsplit=1) if spaces else text.split()
        entries.append(Entry(words[0], words[1] if len(words) > 1 else "", number))
    return entries


def read_ids(path: str | os.PathLike) -> list[tuple[str, int]]:
    """Return the image ids of a list with their lines: the first word without folder and suffix."""
    ids = []
    for text, number in read_lines(path):
        words = text.split()
        if len(words) > 1 and not any(mark in words[1] for mark in "./\\") and not words[1].lstrip("+-").isdigit():
            raise DataError(f"expected an image id, or an image and its label, got {text!r}: ids hold no white space",
                            f"{os.fspath(path)}:{number}")
        word = PurePosixPath(words[0].replace("\\", "/"))
        name = word.stem if word.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".ppm") else word.name
        if not name or name == "..":
            raise DataError(f"expected an image id or path, got {text!r}", f"{os.fspath(path)}:{number}")
        ids.append((name, number))
    return ids


def atoi(text: str) -> int:
    """Return the whole number that `text` begins with, 0 where it begins with none, as C's ``atoi``."""
    text = text.lstrip()
    end = 1 if text[:1] in ("+", "-") else 0
    while end < len(text) and text[end] in "0123456789" and end < 12:
        end += 1
    try:
        return int(text[:end])
    except ValueError:
        return 0
