"""Pictures and videos that a command's inputs mean, and where the results of each go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from atrouscaffe.errors import ArgumentError, DataError, FileAccessError, FileMissingError

__all__ = ["Picture", "add_folder_options", "find_pictures"]

NAMED = 5
"""So many of the files that are passed over are named."""


class Picture(NamedTuple):
    """One input, and the place of its results below the output folder, without a suffix."""

    path: Path
    stem: Path
    video: bool = False


def add_folder_options(parser: Any) -> None:
    """Add the option that says how folders are read."""
    parser.add_argument("--recursive", action="store_true",
                        help="also what is in folders inside a folder; results keep the folders")


def find_pictures(inputs: Sequence[str], *, videos: bool = False, recursive: bool = False,
                  distinct: bool = True) -> list[Picture]:
    """List the pictures, and with `videos` the videos, that files and folders hold.

    In a folder, pictures are known by their content and videos by their suffix; what is passed over is counted and
    named on stderr. Results of a folder's files keep their places below it; with `distinct` no two may share a name.

    Raises
    ------
    FileMissingError, FileAccessError, DataError
        An input is not there or cannot be listed; a folder with nothing in it that is read.
    ArgumentError
        Results of two inputs would have one name.
    """
    from atrouscaffe.data.video import VIDEO_SUFFIXES

    found: list[Picture] = []
    for text in inputs:
        path = Path(text)
        if not path.is_dir():
            if not os.path.lexists(path):
                raise FileMissingError("no such file or folder", text)
            found.append(Picture(path, Path(path.stem), videos and path.suffix.lower() in VIDEO_SUFFIXES))
            continue
        inside, skipped = [], []
        for file in _files(path, recursive):
            video = videos and file.suffix.lower() in VIDEO_SUFFIXES
            if video or _is_picture(file):
                inside.append(Picture(file, file.relative_to(path).with_suffix(""), video))
            else:
                skipped.append(str(file.relative_to(path)))
        if not inside:
            deeper = "; --recursive looks deeper" if not recursive and any(e.is_dir() for e in path.iterdir()) else ""
            raise DataError(f"a folder without pictures{' or videos' if videos else ''}{deeper}", text)
        if skipped:
            more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
            print(f"atrouscaffe: {text}: passed over {len(skipped)} files that are no pictures"
                  f"{' or videos' if videos else ''}: {', '.join(skipped[:NAMED])}{more}", file=sys.stderr)
        found += inside
    if distinct:
        _check_names(found)
    return found


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the visible files of a folder in order."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise FileAccessError(f"cannot be listed: {error.strerror}", str(folder)) from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if recursive and not entry.is_symlink():
                yield from _files(entry, recursive)
        else:
            yield entry


def _is_picture(path: Path) -> bool:
    """Whether a file's suffix or its first bytes are those of a picture; broken ones are told of when they are read."""
    from atrouscaffe.data.header import looks_like_picture
    from atrouscaffe.data.image import IMAGE_SUFFIXES

    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    if not path.is_file():  # a pipe or a device
        return False
    try:
        with open(path, "rb") as file:
            return looks_like_picture(file.read(16))
    except OSError:
        return False


def _check_names(pictures: Sequence[Picture]) -> None:
    """Raise ArgumentError where results of two inputs would have one name, whatever its case."""
    taken: dict[str, Path] = {}
    for picture in pictures:
        ends = ("", "_overlay.mp4") if picture.video else (".png", "_overlay.png")
        names = [f"{picture.stem}{end}" for end in ends]
        for name in names:
            other = taken.get(name.lower())
            if other is not None:
                raise ArgumentError(f"results of {other} and {picture.path} would have the same name, {name}; give "
                                    "them in two runs, each with an --out of its own")
        taken |= {name.lower(): picture.path for name in names}
