"""PASCAL VOC 2012: class names, and where its files lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from atrouscaffe.data.lists import read_ids
from atrouscaffe.errors import DataError, FileMissingError

__all__ = ["VOC_CLASSES", "Sample", "VocFolder"]

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
"""The 21 classes in index order; 255 in a label map is void."""


class Sample(NamedTuple):
    """One image of a data set: its id, its files, and the line of the list that named it."""

    id: str
    image: Path
    label: Path | None
    line: int


class VocFolder:
    """A folder laid out like VOC: ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation``.

    Parameters
    ----------
    root : path
        The folder with ``JPEGImages``, or one above it (``VOCdevkit``, or what holds it).
    labels : str
        Folder of label maps: ``SegmentationClass``, or ``SegmentationClassAug``.

    Raises
    ------
    FileMissingError
        No ``JPEGImages`` there.
    """

    def __init__(self, root: str | os.PathLike, labels: str = "SegmentationClass") -> None:
        root = Path(root)
        for tail in ("", "VOC2012", "VOCdevkit/VOC2012"):
            if (root / tail / "JPEGImages").is_dir():
                self.root = root / tail
                break
        else:
            raise FileMissingError("expected a folder that holds JPEGImages (VOC 2012's own layout: JPEGImages, "
                                   "SegmentationClass, ImageSets/Segmentation), found none", str(root))
        self.labels = labels

    def list_file(self, name: str) -> Path:
        """Return the list called `name`: a file, or a name such as ``val`` in ImageSets/Segmentation or ``list``."""
        folder = self.root / "ImageSets" / "Segmentation"
        places = [Path(name), folder / f"{name}.txt", self.root / "list" / f"{name}.txt"]
        for place in places:
            if place.is_file():
                return place
        there = sorted(file.stem for file in folder.glob("*.txt")) if folder.is_dir() else []
        raise FileMissingError(f"list {name!r}: expected a file, or a list in {folder} "
                               f"(there: {', '.join(there) or 'none'})", str(self.root))

    def samples(self, name: str, *, with_labels: bool = True) -> list[Sample]:
        """Return the images of a list, every file checked to be there.

        Parameters
        ----------
        name : str
            As for `list_file`. Lines are bare ids or DeepLab's ``/JPEGImages/ID.jpg /SegmentationClass/ID.png``.

        Raises
        ------
        DataError
            Files are missing; the message counts them and names the first.
        """
        path = self.list_file(name)
        found, missing = [], []
        for ident, line in read_ids(path):
            image = self.root / "JPEGImages" / f"{ident}.jpg"
            if not image.is_file() and image.with_suffix(".png").is_file():
                image = image.with_suffix(".png")
            label = self.root / self.labels / f"{ident}.png" if with_labels else None
            missing += [(file, line) for file in (image, label) if file is not None and not file.is_file()]
            found.append(Sample(ident, image, label, line))
        if missing:
            file, line = missing[0]
            raise DataError(f"{len(missing)} of the files that the list names are missing, the first is {file}",
                            f"{path}:{line}")
        if not found:
            raise DataError("the list is empty", str(path))
        return found
