"""Tell what a file is by its suffix and by its first bytes, so that readers can say why it will not load."""

from __future__ import annotations

import re
from pathlib import Path

from atrouscaffe.errors import ArgumentError, AtrousCaffeError

__all__ = ["KINDS", "complain", "content_kind", "is_label_map", "kind_by_suffix"]

KINDS = ("net", "solver", "weights", "mean", "state")
"""What the program reads: text nets and solvers, weight, mean and solver state files."""

_SUFFIXES = {".prototxt": "net", ".pbtxt": "net", ".caffemodel": "weights", ".h5": "weights", ".hdf5": "weights",
             ".binaryproto": "mean", ".npy": "mean", ".solverstate": "state"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ARCHIVES = ((b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "a gzip archive"), (b"BZh", "a bzip2 archive"),
             (b"\xfd7zXZ\x00", "an xz archive"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!", "a rar archive"),
             (b"\x28\xb5\x2f\xfd", "a zstd archive"))
_IMAGES = ((b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"GIF8", "a GIF image"))
_TEXT = re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]*\Z")
_LABEL_MAP = re.compile(r"(?:\s|#[^\n]*\n)*item\s*:?\s*[{<]")
_NET_TEXT = re.compile(rb"^\s*(?:#[^\n]*\s*)*(?:name\s*:|layers?\s*\{|input\s*:|input_shape|net\s*:|train_net|base_lr|"
                       rb"force_backward|state\s*\{|\w+\s*[:{])")


def kind_by_suffix(path: str | Path) -> str:
    """Tell the kind of a file by its name.

    Raises
    ------
    ArgumentError
        A suffix that says nothing; name the kind instead.
    """
    name = Path(path).name.lower()
    if name.endswith((".solverstate.h5", ".solverstate.hdf5")):
        return "state"
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix):
            return "solver" if kind == "net" and "solver" in name else kind
    raise ArgumentError(f"cannot tell what {path} is by its suffix; say which of {', '.join(KINDS)} it is "
                        f"(known suffixes: {', '.join(_SUFFIXES)})")


def is_label_map(text: str) -> bool:
    """Tell whether a text begins as a label map does."""
    return _LABEL_MAP.match(text) is not None


def content_kind(head: bytes) -> tuple[str, str]:
    """Tell what the first bytes of a file are.

    Returns
    -------
    (str, str)
        A word (``"empty"``, ``"text"``, ``"html"``, ``"lfs"``, ``"hdf5"``, ``"npy"``, ``"archive"``, ``"image"``,
        ``"zeros"``, ``"binary"``), and a phrase for people.
    """
    if not head:
        return "empty", "an empty file"
    if head.startswith(_HDF5):
        return "hdf5", "an HDF5 file"
    if head.startswith(b"\x93NUMPY"):
        return "npy", "a NumPy .npy file"
    if head.startswith(b"version https://git-lfs"):
        return "lfs", "a Git-LFS pointer, not the file itself"
    for magic, phrase in _ARCHIVES:
        if head.startswith(magic):
            return "archive", phrase
    for magic, phrase in _IMAGES:
        if head.startswith(magic):
            return "image", phrase
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")):
        return "html", "an HTML page"
    if not head.strip(b"\0"):
        return "zeros", "nothing but zero bytes"
    if _TEXT.match(head):
        return ("text", "text") if _NET_TEXT.match(head.lstrip(b"\xef\xbb\xbf")) else ("text", "text, but not of a net")
    return "binary", "binary data"


_ADVICE = {
    "empty": "download or copy it again",
    "lfs": "fetch the real file with `git lfs pull`",
    "html": "the download gave a web page; open its address in a browser and save the file that it leads to",
    "archive": "unpack it first",
    "image": "this is a picture, not a model",
    "zeros": "the download broke off; get the file again",
}


def _problem(content: str, phrase: str, wanted: str) -> str:
    expected = {"text": "a text net or solver (.prototxt)", "protobuf": "a binary protobuf file",
                "hdf5": "an HDF5 file", "npy": "a NumPy file"}[wanted]
    if content in _ADVICE:
        return f"expected {expected}, got {phrase}; {_ADVICE[content]}"
    if wanted == "text":
        if content == "text":
            return ""
        advice = "weights go where weights are asked for" if content in ("binary", "hdf5") else "give a .prototxt"
        return f"expected {expected}, got {phrase}; {advice}"
    if content == "text" and wanted == "protobuf" and phrase != "text":
        return ""  # short binary files may look like text: let the reader decide
    if content == "text":
        return f"expected {expected}, got {phrase}; did you mean to give it as the net?"
    if content == "hdf5" and wanted != "hdf5":
        return f"expected {expected}, got {phrase}; rename it to end in .h5"
    if content == "npy" and wanted != "npy":
        return f"expected {expected}, got {phrase}; rename it to end in .npy"
    if wanted != "protobuf" and content != wanted:
        return f"expected {expected}, got {phrase}" + (
            "; rename it to end in .caffemodel if it is one" if wanted == "hdf5" else "")
    return ""


def complain(path: str | Path, wanted: str, head: bytes, error: type[AtrousCaffeError]) -> None:
    """Raise if the first bytes of a file show that it is something else.

    Parameters
    ----------
    path : str or Path
        Named in the error.
    wanted : {"text", "protobuf", "hdf5", "npy"}
    head : bytes
        The first bytes of the file; all of them if there are few.
    error : type
        The error to raise.
    """
    problem = _problem(*content_kind(head), wanted)
    if problem:
        raise error(problem, str(path))
