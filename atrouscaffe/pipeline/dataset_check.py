"""Look through a list of images and label maps before days of training go into it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.data.image import image_header, read_bytes
from atrouscaffe.data.label_sets import class_names
from atrouscaffe.data.lists import Entry, read_pairs
from atrouscaffe.data.palette import explain_values, read_labels
from atrouscaffe.errors import ArgumentError, AtrousCaffeError
from atrouscaffe.runtime.threads import num_threads

__all__ = ["DatasetReport", "Finding", "check_dataset"]

MUCH_VOID = 0.5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or strange.

    Attributes
    ----------
    kind : str
        ``"missing"``, ``"damaged"``, ``"no label"``, ``"size"``, ``"colours"``, ``"value"``, ``"void"``,
        ``"duplicate"`` or ``"crop"``.
    where : str
        ``list:line``.
    text : str
    error : bool
        False for what can be trained on all the same.
    """

    kind: str
    where: str
    text: str
    error: bool = True


@dataclass
class DatasetReport:
    """What a check found.

    Attributes
    ----------
    images : int
        Lines in the list.
    findings : list of Finding
    modes : dict of str to int
        How many label maps are of which kind: ``"palette"``, ``"grey"``, ``"RGB"``.
    pixels : (256,) int64
        Pixels of each label value.
    images_with : (256,) int64
        Images in which each label value occurs.
    smaller : int
        Images smaller than the crop in at least one direction: these get padded.
    names : tuple of str
    classes, ignore : int
    """

    images: int = 0
    findings: list[Finding] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images_with: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    smaller: int = 0
    names: tuple[str, ...] = ()
    classes: int = 21
    ignore: int = 255

    @property
    def errors(self) -> int:
        """Findings that training would trip over."""
        return sum(finding.error for finding in self.findings)

    @property
    def void_share(self) -> float:
        """Share of all label pixels that are void."""
        return float(self.pixels[self.ignore] / max(1, self.pixels.sum()))

    def as_dict(self) -> dict[str, Any]:
        """Return the report in JSON's types."""
        return {"images": self.images, "errors": self.errors, "modes": self.modes, "void_share": self.void_share,
                "smaller_than_crop": self.smaller,
                "classes": [{"index": i, "name": self.names[i], "pixels": int(self.pixels[i]),
                             "images": int(self.images_with[i])} for i in range(self.classes)],
                "findings": [vars(finding) for finding in self.findings]}

    def text(self, most: int = 20) -> str:
        """Return the report as text; of each kind of finding at most `most`."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.modes.items())) or "none readable"
        lines = [f"{self.images} images; label maps: {kinds}; {self.void_share:.2%} of their pixels are void"]
        labelled = max(1, int(self.pixels.sum() - self.pixels[self.ignore]))
        lines += [f"  {i:3} {self.names[i]:14} {self.images_with[i]:6} images {self.pixels[i] / labelled:8.3%} of the "
                  "labelled pixels" for i in range(self.classes)]
        absent = [self.names[i] for i in range(self.classes) if not self.images_with[i]]
        if absent and self.pixels.any():
            lines.append(f"classes that never occur: {', '.join(absent)}")
        if self.smaller:
            lines.append(f"{self.smaller} images are smaller than the crop and get padded with mean and void")
        for kind, count in Counter(finding.kind for finding in self.findings).items():
            found = [finding for finding in self.findings if finding.kind == kind]
            lines += [f"{finding.where}: {'' if finding.error else 'note: '}{finding.text}" for finding in found[:most]]
            if count > most:
                lines.append(f"... and {count - most} more of this kind ({kind})")
        lines.append(f"{self.errors} errors, {len(self.findings) - self.errors} notes")
        return "\n".join(lines)


@dataclass
class _Row:
    """What one line of a list led to."""

    findings: list[Finding] = field(default_factory=list)
    size: tuple[int, int] | None = None
    mode: str = ""
    counts: np.ndarray | None = None
    digest: bytes = b""


def check_dataset(listing: str | Path, root: str = "", *, classes: int = 21, ignore: int = 255, crop: int = 0,
                  shrink: int = 8, against: Sequence[str | Path] = ()) -> DatasetReport:
    """Check a list of ``image label`` lines, as ImageSegData reads them.

    Parameters
    ----------
    listing : path
    root : str
        Put in front of each path as it stands (``root_folder``).
    classes : int
        Label values 0 to ``classes - 1`` are right.
    ignore : int
        Label value of void.
    crop : int
        ``crop_size`` of the training net, 0 for none: images smaller than it are counted, and it must
        be a multiple of `shrink` plus 1, since the label map is subsampled by `shrink`.
    shrink : int
    against : sequence of path
        Other lists, such as the validation list: an image that is in one of them, too, is an error.

    Returns
    -------
    DatasetReport

    Raises
    ------
    AtrousCaffeError
        A list cannot be read.
    """
    if not 1 <= classes <= 256 or not 0 <= ignore <= 255:
        raise ArgumentError(f"expected 1 to 256 classes and an ignored label of 0 to 255, got {classes} and {ignore}")
    entries = read_pairs(listing)
    report = DatasetReport(images=len(entries), names=class_names(classes), classes=classes, ignore=ignore)
    if crop and shrink > 1 and (crop - 1) % shrink:
        below = (crop - 1) // shrink * shrink + 1
        report.findings.append(Finding("crop", str(listing), f"a crop of {crop} shrunk by {shrink} does not fall on "
                                       f"whole pixels, so neighbouring labels would be mixed; use {below} or "
                                       f"{below + shrink}"))
    with ThreadPoolExecutor(max(1, num_threads())) as pool:
        rows = list(pool.map(lambda entry: _row(entry, str(listing), root, classes, ignore), entries))
    for row in rows:
        report.findings += row.findings
        if row.mode:
            report.modes[row.mode] = report.modes.get(row.mode, 0) + 1
        if row.counts is not None:
            report.pixels += row.counts
            report.images_with += row.counts > 0
        report.smaller += bool(crop and row.size and min(row.size) < crop)
    if {"palette", "grey"} <= set(report.modes):
        report.findings.append(Finding("colours", str(listing), "palette and grey label maps are mixed; both are read "
                                       "by index here, but the original reads a palette as luminance", error=False))
    report.findings += _duplicates(entries, [row.digest for row in rows], str(listing), root, against)
    return report


def _row(entry: Entry, listing: str, root: str, classes: int, ignore: int) -> _Row:
    """Check one line."""
    row, where = _Row(), f"{listing}:{entry.line}"

    def find(kind: str, text: str, error: bool = True) -> None:
        row.findings.append(Finding(kind, where, text, error))

    def trouble(error: AtrousCaffeError) -> None:
        find("missing" if isinstance(error, FileNotFoundError) else "damaged", str(error))

    image = root + entry.image
    try:
        header = image_header(image)
        row.size = (header.height, header.width)
        row.digest = hashlib.blake2b(read_bytes(image), digest_size=16).digest()
        if not header.complete:
            find("damaged", f"{image}: truncated {header.kind}")
    except AtrousCaffeError as error:
        trouble(error)
    if not entry.label:
        find("no label", "no label map on the line")
        return row
    label = root + entry.label
    try:
        row.mode = _mode(label)
        labels = read_labels(label, colors=True)
    except AtrousCaffeError as error:
        trouble(error)
        return row
    if row.mode == "RGB":
        find("colours", f"{label}: an RGB picture; expected a palette or grey PNG of class indices")
    if row.size is not None and labels.shape != row.size:
        find("size", f"{label}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image has "
                     f"{row.size[1]}x{row.size[0]}")
    row.counts = np.bincount(labels.ravel(), minlength=256)
    _values(labels, row.counts, label, classes, ignore, find)
    return row


def _values(labels: np.ndarray, counts: np.ndarray, label: str, classes: int, ignore: int, find: Any) -> None:
    """Report values out of range, and maps that are mostly or wholly void."""
    bad = [int(value) for value in np.flatnonzero(counts) if value >= classes and value != ignore]
    if bad:
        why = explain_values(labels, classes) if ignore == 255 else ""
        shown = ", ".join(map(str, bad[:6])) + (", ..." if len(bad) > 6 else "")
        find("value", f"{label}: {why or f'label values {shown}; expected 0 to {classes - 1} or {ignore}'}")
    share = counts[ignore] / max(1, labels.size)
    if share == 1:
        find("void", f"{label}: nothing but void, so there is nothing to learn", error=False)
    elif share > MUCH_VOID:
        find("void", f"{label}: {share:.0%} void", error=False)


def _mode(path: str) -> str:
    """Return how a label map stores its values: palette, grey or RGB."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            mode = picture.mode
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""  # read_labels says what is wrong with it
    return {"P": "palette", "RGB": "RGB", "RGBA": "RGB"}.get(mode, "grey")


def _duplicates(entries: Sequence[Entry], digests: Sequence[bytes], listing: str, root: str,
                against: Iterable[str | Path]) -> list[Finding]:
    """Return images that stand twice in the list, or in another list as well, by name or by content."""
    findings: list[Finding] = []
    names: dict[str, int] = {}
    contents: dict[bytes, Entry] = {}
    for entry, digest in zip(entries, digests):
        where = f"{listing}:{entry.line}"
        if entry.image in names:
            findings.append(Finding("duplicate", where, f"{entry.image} is in line {names[entry.image]} already",
                                    error=False))
        elif digest and digest in contents:
            findings.append(Finding("duplicate", where, f"{entry.image} is the same file as {contents[digest].image} "
                                    f"in line {contents[digest].line}", error=False))
        names.setdefault(entry.image, entry.line)
        if digest:
            contents.setdefault(digest, entry)
    for other in against:
        for entry in read_pairs(other):
            where = f"{os.fspath(other)}:{entry.line}"
            if entry.image in names:
                findings.append(Finding("duplicate", where, f"{entry.image} is in {listing}:{names[entry.image]}, too"))
                continue
            try:
                digest = hashlib.blake2b(read_bytes(root + entry.image), digest_size=16).digest()
            except AtrousCaffeError as error:
                findings.append(Finding("missing", where, str(error)))
                continue
            if digest in contents:
                same = contents[digest]
                findings.append(Finding("duplicate", where, f"{entry.image} is the same file as {same.image} in "
                                        f"{listing}:{same.line}"))
    return findings
