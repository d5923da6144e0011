"""The augmented labels: SBD's MAT files and VOC's own label maps joined, as the DeepLab authors did.

Source: ``TransformBerkeleyVOC2011Annot.m`` and ``SavePngAsRawPng.m`` of the authors. SBD (Hariharan et
al., ICCV 2011) has ``cls/ID.mat`` with ``GTcls.Segmentation``, class indices without void; VOC's label
maps, with void contours, then take the place of SBD's where both exist.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atrouscaffe.data.mat import read_mat
from atrouscaffe.data.palette import encode_labels, explain_values, read_labels
from atrouscaffe.errors import AtrousCaffeError, DataError, FileMissingError

__all__ = ["Joined", "join_labels", "sbd_labels"]


class Joined(NamedTuple):
    """What `join_labels` wrote: label maps from SBD and from VOC, and files that could not be used."""

    sbd: int
    voc: int
    failed: list[str]


def sbd_labels(path: str | os.PathLike) -> np.ndarray:
    """Read one of SBD's files, (H, W) uint8.

    Raises
    ------
    FileMissingError, FileAccessError, DataError
        Not a MAT file, or one without ``GTcls.Segmentation`` of values 0 to 20.
    """
    found: Any = read_mat(path).get("GTcls")
    labels = found.get("Segmentation") if isinstance(found, dict) else None
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iuf":
        raise DataError("expected SBD's GTcls.Segmentation, an array of class indices, found none; use the files of "
                        "dataset/cls, not those of dataset/inst", os.fspath(path))
    if labels.size == 0 or labels.min() < 0 or labels.max() > 255 or (labels % 1).any():
        raise DataError("expected class indices from 0 to 20", os.fspath(path))
    labels = np.ascontiguousarray(labels, np.uint8)
    wrong = explain_values(labels)
    if wrong:
        raise DataError(wrong, os.fspath(path))
    return labels


def join_labels(sbd: str | os.PathLike, voc: str | os.PathLike | None,
                write: Callable[[str, bytes], object], *, raw: bool = True,
                progress: Callable[[int, int], object] | None = None) -> Joined:
    """Hand over one PNG for each image of SBD and of VOC, VOC's where both have it.

    Parameters
    ----------
    sbd : path
        Folder of MAT files (SBD's ``dataset/cls``), or one above it.
    voc : path, optional
        VOC's ``SegmentationClass``.
    write : callable of (str, bytes)
        Takes the id and the PNG.
    raw : bool
        Save grey pictures of indices, as the authors did for Caffe, which reads label maps as grey;
        False gives them VOC's palette.
    progress : callable of (int, int), optional
        Called with the number of files done and of all.

    Raises
    ------
    FileMissingError
        No MAT files, or no label maps, where they should be.
    """
    places = [Path(sbd) / tail for tail in ("", "cls", "dataset/cls", "benchmark_RELEASE/dataset/cls")]
    source = next((place for place in places if any(place.glob("*.mat"))), None)
    if source is None:
        raise FileMissingError("expected SBD's MAT files in it (dataset/cls of SBD's benchmark.tgz), found none",
                               str(sbd))
    files = {path.stem: path for path in sorted(source.glob("*.mat"))}
    own = {path.stem: path for path in sorted(Path(voc).glob("*.png"))} if voc is not None else {}
    if voc is not None and not own:
        raise FileMissingError("expected VOC's label maps (SegmentationClass/*.png) in it, found none", str(voc))
    names, failed, counts = sorted(files.keys() | own.keys()), [], {"sbd": 0, "voc": 0}
    for done, name in enumerate(names, 1):
        kind = "voc" if name in own else "sbd"
        try:
            labels = read_labels(own[name]) if kind == "voc" else sbd_labels(files[name])
            wrong = explain_values(labels)
            if wrong:
                raise DataError(wrong, str(own.get(name, files.get(name))))
        except AtrousCaffeError as error:
            failed.append(str(error))
        else:
            write(name, _grey(labels) if raw else encode_labels(labels))
            counts[kind] += 1
        if progress is not None:
            progress(done, len(names))
    return Joined(counts["sbd"], counts["voc"], failed)


def _grey(labels: np.ndarray) -> bytes:
    from atrouscaffe.data.overlay import encode_picture

    return encode_picture(labels)
