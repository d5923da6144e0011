"""R-CNN's lists of windows: images, and rectangles in them with a class and an overlap."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from atrouscaffe.data.image import read_bytes
from atrouscaffe.errors import DataError

__all__ = ["WindowList", "read_windows"]

MAX_LIST_BYTES = 2**28
LARGEST = 2**24  # coordinates, which must be whole numbers in float32


class WindowList(NamedTuple):
    """What a list says.

    Attributes
    ----------
    images : list of str
        Their paths, as the list has them.
    windows : (W, 7) float64
        Image (place in `images`), label, overlap, x1, y1, x2, y2 (pixels, both ends inside).
    """

    images: list[str]
    windows: np.ndarray


class _Words:
    """The words of a list one after the other, with the line that each stands on."""

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        self.words = [(word, number) for number, line in enumerate(data.decode("utf-8", "surrogateescape").splitlines(),
                                                                    1) for word in line.split()]
        self.at = 0

    def fail(self, wanted: str) -> DataError:
        """Return the error for a word that is not what was wanted."""
        if self.at >= len(self.words):
            return DataError(f"expected {wanted}, got the end of the list", self.path)
        word, line = self.words[self.at]
        return DataError(f"expected {wanted}, got {word[:60]!r}", f"{self.path}:{line}")

    def text(self, wanted: str) -> str:
        """Return the next word."""
        if self.at >= len(self.words):
            raise self.fail(wanted)
        self.at += 1
        return self.words[self.at - 1][0]

    def number(self, wanted: str, least: float, most: float, kind: type = int) -> float:
        """Return the next word as a number."""
        word = self.text(wanted)
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            self.at -= 1
            raise self.fail(f"{wanted} from {least:g} to {most:g}")
        return value


def read_windows(path: str | os.PathLike) -> WindowList:
    """Read a list of windows (``window_data_layer.cpp``).

    For each image: ``# number``, path, channels, height, width, how many windows, and for each window
    ``class overlap x1 y1 x2 y2``. The images are numbered from 0 on.

    Raises
    ------
    FileMissingError, FileAccessError, DataError
    """
    name = os.fspath(path)
    words = _Words(read_bytes(path, MAX_LIST_BYTES, "list of windows"), name)
    images: list[str] = []
    rows: list[tuple[float, ...]] = []
    while words.at < len(words.words):
        if words.text("'#'") != "#":
            words.at -= 1
            raise words.fail("'#' and the number of an image")
        words.number(f"the image's number, {len(images)}", len(images), len(images))
        images.append(words.text("the path of an image"))
        for side in ("channels", "height", "width"):  # read from the image itself
            words.number(f"its {side}", 1, LARGEST)
        for _ in range(int(words.number("how many windows it has", 0, len(words.words)))):
            label = words.number("a window's class", 0, LARGEST)
            overlap = words.number("its overlap", -LARGEST, LARGEST, float)
            rows.append((len(images) - 1, label, overlap,
                         *(words.number(f"its {side}", -LARGEST, LARGEST) for side in ("x1", "y1", "x2", "y2"))))
    if not rows:
        raise DataError("expected a list of images with windows, got none", name)
    return WindowList(images, np.array(rows, np.float64))
