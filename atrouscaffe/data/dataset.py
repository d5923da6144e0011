"""Lists of images with ground truth, in the layouts in use, checked before a long run begins.

Source of the layouts: VOC 2012's development kit, and the list files of DeepLab's ``voc12/list``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from atrouscaffe.data.image import image_header
from atrouscaffe.data.lists import read_ids, read_pairs
from atrouscaffe.data.palette import explain_values, read_labels
from atrouscaffe.data.voc import Sample, VocFolder
from atrouscaffe.errors import AtrousCaffeError, DataError, FileMissingError

__all__ = ["Problem", "check_samples", "find_samples"]

WORKERS = 4


class Problem(NamedTuple):
    """An image that cannot be used: its id, and why."""

    id: str
    why: str


def find_samples(root: str | os.PathLike | None, name: str, labels: str | None = None, *,
                 with_labels: bool = True) -> list[Sample]:
    """Return the images that a list names, whether their files are there or not.

    Parameters
    ----------
    root : path, optional
        Folder laid out like VOC 2012, or one above it, or any folder that the list's paths begin at;
        the list's own folder when left out.
    name : str
        A file, or a name such as ``val`` in ``ImageSets/Segmentation`` or ``list`` below `root`. Lines
        are bare ids (VOC), ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`` (DeepLab), or any image
        and label paths.
    labels : str, optional
        Folder of label maps below `root`, in place of the one that the list names; ``SegmentationClass``
        for lists of ids.
    with_labels : bool
        False leaves label maps out.

    Raises
    ------
    FileMissingError, DataError
        No such list or folder; an empty list; an id that stands there twice.
    """
    folder = _voc_folder(root, labels or "SegmentationClass")
    path = folder.list_file(name) if folder else _plain_list(root, name)
    base = folder.root if folder else Path(root) if root is not None else path.parent
    samples = []
    first: dict[str, int] = {}
    for (ident, line), entry in zip(read_ids(path), read_pairs(path)):
        if ident in first:
            raise DataError(f"{ident!r} stands in the list twice, first in line {first[ident]}; each image counts once",
                            f"{path}:{line}")
        first[ident] = line
        image = _place(base, entry.image, folder, ident)
        label = None
        if with_labels:
            if labels is not None or not entry.label:
                label = base / (labels or "SegmentationClass") / f"{ident}.png"
            else:
                label = _place(base, entry.label, None, ident)
        samples.append(Sample(ident, image, label, line))
    return samples


def _voc_folder(root: str | os.PathLike | None, labels: str) -> VocFolder | None:
    """Return the folder as VOC's layout, None where it is none."""
    if root is None:
        return None
    if not Path(root).is_dir():
        raise FileMissingError("expected a folder with images, found none", str(root))
    try:
        return VocFolder(root, labels)
    except FileMissingError:
        return None


def _plain_list(root: str | os.PathLike | None, name: str) -> Path:
    places = [Path(name)] + ([Path(root) / name, Path(root) / f"{name}.txt"] if root is not None else [])
    for place in places:
        if place.is_file():
            return place
    hint = "" if root is not None else "; a list of VOC's own is found by its name in VOC's folder (--voc ROOT)"
    raise FileMissingError(f"list {name!r}: expected a file with one image a line; looked at "
                           f"{', '.join(str(place) for place in places)}{hint}")


def _place(base: Path, text: str, folder: VocFolder | None, ident: str) -> Path:
    """Return the file that a word of a list means."""
    if folder is not None and "/" not in text and "\\" not in text:
        image = folder.root / "JPEGImages" / f"{ident}.jpg"
        return image.with_suffix(".png") if not image.is_file() and image.with_suffix(".png").is_file() else image
    joined = base / text.lstrip("/")  # DeepLab's lists begin with "/" and mean the data folder
    return joined if joined.is_file() or not Path(text).is_absolute() else Path(text)


def check_samples(samples: Sequence[Sample], classes: int = 21, *, values: bool = True) -> list[Problem]:
    """Look at every file of a list: present, a whole picture, the same size, labels in range.

    Parameters
    ----------
    samples : sequence of Sample
    classes : int
    values : bool
        Decode the label maps and look at their values, some milliseconds each.

    Returns
    -------
    list of Problem
        In the list's order; empty where all is well.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(lambda sample: _problem(sample, classes, values), samples)
        return [Problem(sample.id, why) for sample, why in zip(samples, found) if why]


def _problem(sample: Sample, classes: int, values: bool) -> str:
    try:
        picture = image_header(sample.image)
        if not picture.complete:
            return f"{sample.image}: truncated {picture.kind}: its end is missing; copy it again"
        if sample.label is None:
            return ""
        label = image_header(sample.label)
        if (label.height, label.width) != (picture.height, picture.width):
            return (f"{sample.label}: label map of {label.width}x{label.height} pixels, but its image has "
                    f"{picture.width}x{picture.height}")
        wrong = explain_values(read_labels(sample.label), classes) if values else ""
        return f"{sample.label}: {wrong}" if wrong else ""
    except AtrousCaffeError as error:
        return str(error)
