"""Frames of videos, read and written by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.errors import DataError, FileAccessError, FileMissingError

__all__ = ["VIDEO_SUFFIXES", "VideoFile", "VideoFrames"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v")
MAX_FRAME_PIXELS = 2**26


class VideoFrames:
    """The frames of a video, one after another.

    Attributes
    ----------
    count : int
        Frames that the file says it has; 0 where it does not say.
    rate : float
        Frames a second.

    Raises
    ------
    FileMissingError, DataError
        No such file, or no video that OpenCV reads.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        import cv2

        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise FileMissingError("no such file; expected a video", self.path)
        self._capture = cv2.VideoCapture(self.path)
        if not self._capture.isOpened():
            raise DataError("not a video that OpenCV can read", self.path)
        width, height = (self._capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_FRAME_PIXELS:
            raise DataError(f"frames of {width:.0f}x{height:.0f} pixels; at most {MAX_FRAME_PIXELS} are read",
                            self.path)
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0 < rate < 1000 else 25.0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield each frame, (H, W, 3) uint8, B, G, R."""
        found = False
        try:
            while True:
                there, frame = self._capture.read()
                if not there:
                    break
                found = True
                yield frame
        finally:
            self._capture.release()
        if not found:
            raise DataError("a video without a single readable frame", self.path)


class VideoFile:
    """A video being written; it bears its name only when it is whole.

    Parameters
    ----------
    path : path
        Ends with ``.mp4``.
    rate : float
        Frames a second.
    """

    def __init__(self, path: str | os.PathLike, rate: float) -> None:
        self.path, self.rate = Path(path), rate
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}{self.path.suffix}")
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3) uint8; the first one says the size, later ones are cut or padded to it."""
        import cv2

        if self._writer is None:
            self._size = frame.shape[:2]
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self.rate,
                                           (frame.shape[1], frame.shape[0]))
            if not self._writer.isOpened():
                raise FileAccessError("OpenCV cannot write this video here", str(self.path))
        if frame.shape[:2] != self._size:
            fitted = np.zeros((*self._size, 3), np.uint8)
            height, width = (min(a, b) for a, b in zip(self._size, frame.shape))
            fitted[:height, :width] = frame[:height, :width]
            frame = fitted
        self._writer.write(np.ascontiguousarray(frame))

    def close(self, *, keep: bool) -> None:
        """Finish the file and give it its name, or remove it."""
        if self._writer is not None:
            self._writer.release()
            if keep:
                with open(self._temporary, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(self._temporary, self.path)
            else:
                self._temporary.unlink(missing_ok=True)
        self._writer = None
