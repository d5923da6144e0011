"""Label maps: text files that name the classes of a detector, as SSD's data layers and its users read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atrouscaffe.formats.prototxt import read_text
from atrouscaffe.formats.text import parse_record

__all__ = ["Label", "read_label_map"]

@dataclass(frozen=True)
class Label:
    """One class: its number, its name in annotations, and the one for people."""

    label: int
    name: str
    display_name: str


def read_label_map(path: str | Path) -> tuple[Label, ...]:
    """Read a label map.

    Returns
    -------
    tuple of Label
        In the order of the file.

    Raises
    ------
    PrototxtError
        What does not parse, with file, line and column.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    record = parse_record(read_text(path), "LabelMap", str(path))
    return tuple(Label(item.get("label", 0), item.get("name", ""), item.get("display_name", ""))
                 for item in record.get("item", []))
