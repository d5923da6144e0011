"""The archive that VOC's evaluation server takes, made and checked.

Source: the VOC 2012 development kit's section on submitting segmentation results:
``results/VOC2012/Segmentation/comp6_test_cls/ID.png`` (comp5 for methods trained on VOC's data alone), one
for each image of the list, indexed 8-bit PNGs with VOC's colour map, of the image's size, classes 0 to 20.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from atrouscaffe.data.header import read_header
from atrouscaffe.data.image import image_header, read_bytes
from atrouscaffe.data.palette import color_map, decode_labels, encode_labels
from atrouscaffe.data.voc import Sample
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError
from atrouscaffe.formats.atomic import atomic_path

__all__ = ["check_archive", "make_archive", "member_folder"]

CLASSES = 21
COMPETITIONS = ("comp5", "comp6")
MOST_BYTES = 2**24
MOST_MEMBERS = 10**5


def member_folder(competition: str = "comp6", name: str = "test") -> str:
    """Return the folder inside the archive.

    Parameters
    ----------
    competition : {"comp5", "comp6"}
        comp5: trained on VOC's own data only; comp6: any data, such as ImageNet weights.
    name : str
        The list: ``"test"``, or ``"val"`` to try the archive out.
    """
    if competition not in COMPETITIONS:
        raise ArgumentError(f"competition: expected one of {', '.join(COMPETITIONS)}, got {competition!r}")
    if not name.isidentifier():
        raise ArgumentError(f"list: expected a plain name such as test, got {name!r}")
    return f"results/VOC2012/Segmentation/{competition}_{name}_cls"


def make_archive(path: str | os.PathLike, samples: Sequence[Sample], labels: Callable[[Sample], np.ndarray],
                 folder: str, progress: Callable[[int], object] | None = None) -> None:
    """Write the archive, whole or not at all; the same label maps give the same bytes.

    Parameters
    ----------
    path : path
        Ending in ``.tar``, ``.tar.gz`` or ``.tgz``.
    samples : sequence of Sample
    labels : callable of Sample
        Returns (H, W) classes of the image's size.
    folder : str
        Of `member_folder`.
    progress : callable of int, optional

    Raises
    ------
    DataError, ArgumentError
        A label map of the wrong size or with values above 20; nothing is left behind.
    """
    path = Path(path)
    zipped = path.name.endswith((".tar.gz", ".tgz"))
    if not zipped and path.suffix != ".tar":
        raise ArgumentError(f"archive: expected a name ending in .tar, .tar.gz or .tgz, got {path.name!r}")
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        stream = gzip.GzipFile("", "wb", 6, raw, mtime=0) if zipped else raw
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for done, sample in enumerate(samples, 1):
                data = encode_labels(_checked(labels(sample), sample))
                member = tarfile.TarInfo(f"{folder}/{sample.id}.png")
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
                if progress is not None:
                    progress(done)
        if zipped:
            stream.close()


def _checked(labels: np.ndarray, sample: Sample) -> np.ndarray:
    header = image_header(sample.image)
    if labels.shape != (header.height, header.width):
        raise DataError(f"label map of {sample.id}: expected the image's size {header.width}x{header.height}, got "
                        f"{labels.shape[1]}x{labels.shape[0]}")
    if labels.max() >= CLASSES:
        raise DataError(f"label map of {sample.id}: expected classes 0 to {CLASSES - 1}, got {int(labels.max())}; void "
                        "(255) may not be submitted")
    return labels


def check_archive(path: str | os.PathLike, samples: Sequence[Sample], competition: str = "comp6",
                  name: str = "test") -> list[str]:
    """Hold an archive against the devkit's rules.

    Parameters
    ----------
    path : path
    samples : sequence of Sample
        The images that the server expects; their files tell the sizes.
    competition, name : str
        See `member_folder`.

    Returns
    -------
    list of str
        What is wrong; empty for an archive that may be sent.

    Raises
    ------
    FileMissingError, FileAccessError
        The archive cannot be read.
    """
    path = os.fspath(path)
    read_bytes(path, 2**34, "archive")  # missing, a folder, not allowed: said in our own words
    folder = PurePosixPath(member_folder(competition, name))
    problems: list[str] = []
    seen: set[str] = set()
    expected = {sample.id: sample for sample in samples}
    try:
        with tarfile.open(path) as archive:
            for count, member in enumerate(archive):
                if count >= MOST_MEMBERS:
                    return [*problems, f"more than {MOST_MEMBERS} entries"]
                if member.isdir():
                    continue
                place = PurePosixPath(member.name)
                if not member.isfile() or place.is_absolute() or ".." in place.parts:
                    problems.append(f"{member.name}: expected plain files below {folder}")
                elif place.parent != folder or place.suffix != ".png":
                    problems.append(f"{member.name}: expected {folder}/ID.png")
                elif place.stem not in expected:
                    problems.append(f"{member.name}: no image of the list has this id")
                elif place.stem in seen:
                    problems.append(f"{member.name}: stands in the archive twice")
                else:
                    seen.add(place.stem)
                    problems += _check_member(archive, member, expected[place.stem])
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        return [*problems, f"damaged or no tar archive: {error}"]
    missing = [ident for ident in expected if ident not in seen]
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} images are missing, the first is {missing[0]}")
    return problems


def _check_member(archive: tarfile.TarFile, member: tarfile.TarInfo, sample: Sample) -> list[str]:
    """Return what is wrong with one PNG."""
    from PIL import Image

    if member.size > MOST_BYTES:
        return [f"{member.name}: {member.size} bytes; expected an index PNG"]
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    try:
        if read_header(data).kind != "PNG":
            return [f"{member.name}: expected a PNG, got {read_header(data).kind}"]
        labels = decode_labels(data)
        wanted = image_header(sample.image)
    except AtrousCaffeError as error:
        return [f"{member.name}: {error}"]
    if data[24:26] != b"\x08\x03":  # bit depth and colour type in the IHDR chunk
        return [f"{member.name}: expected an indexed PNG of 8 bits, got depth {data[24]}, colour type {data[25]}"]
    found = []
    if labels.shape != (wanted.height, wanted.width):
        found.append(f"{member.name}: expected the image's size {wanted.width}x{wanted.height}, got "
                     f"{labels.shape[1]}x{labels.shape[0]}")
    if labels.max() >= CLASSES:
        found.append(f"{member.name}: expected classes 0 to {CLASSES - 1}, got {int(labels.max())}")
    with Image.open(io.BytesIO(data)) as picture:
        palette = np.array(picture.getpalette()).reshape(-1, 3)
    if not np.array_equal(palette[:CLASSES], color_map()[:len(palette)][:CLASSES]):
        found.append(f"{member.name}: its palette is not VOC's colour map")
    return found

