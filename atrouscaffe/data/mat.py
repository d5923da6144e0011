"""MATLAB's MAT files, level 5: numeric arrays read and written, structs and cells read.

The forks of Caffe write their scores so (matio), and SBD's label maps come so. Level 7.3 is HDF5
and refused by name. Source: MathWorks, "MAT-File Format" (the public description of level 5).
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from atrouscaffe.data.image import read_bytes
from atrouscaffe.errors import ArgumentError, DataError

__all__ = ["encode_mat", "read_mat"]

MAX_FILE_BYTES = 2**33
MAX_INFLATED = 2**33
MAX_RATIO = 1100  # deflate compresses to no less than a thousandth
MAX_DEPTH = 16

CELL, STRUCT, CHAR = 1, 2, 4
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1", 17: "u2"}
CODES = {dtype: code for code, dtype in TYPES.items() if code < 16}
MATRIX, COMPRESSED = 14, 15


def read_mat(path: str | os.PathLike) -> dict[str, Any]:
    """Read all variables of a MAT file.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to value
        Numeric arrays with MATLAB's dimensions, in the class they were saved in (blobs that the
        forks wrote are ``data`` of shape (W, H, C, N) float32: ``.transpose()`` gives (N, C, H, W)
        without a copy). Text is ``str``; a struct is a dict, or a list of dicts; a cell is a list.

    Raises
    ------
    FileMissingError, FileAccessError
        No such file, or it cannot be read.
    DataError
        Not a MAT file of level 5, truncated or damaged; sizes are checked before memory is taken.
    """
    path = os.fspath(path)
    data = read_bytes(path, MAX_FILE_BYTES, "MAT file")
    try:
        return _parse(data)
    except DataError as error:
        error.where = error.where or path
        raise
    except struct.error:
        raise DataError(f"truncated MAT file: an element ends behind its {len(data)} bytes", path) from None


class _Elements:
    """The elements of a stretch of bytes, one after another."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order, self.at = data, order, 0

    def __bool__(self) -> bool:
        return self.at + 8 <= len(self.data)

    def next(self) -> tuple[int, memoryview]:
        """Return type and content of the next element."""
        kind, size = struct.unpack_from(self.order + "II", self.data, self.at)
        if kind >> 16:  # both halves in one word: at most four bytes, beside it
            kind, size, begin = kind & 0xFFFF, kind >> 16, self.at + 4
            end = self.at + 8
            if size > 4:
                raise DataError(f"damaged MAT file: a small element of {size} bytes")
        else:
            begin = self.at + 8
            end = begin + size + (-size % 8 if kind != COMPRESSED else 0)
        if begin + size > len(self.data):
            there = max(0, len(self.data) - begin)
            raise DataError(f"truncated MAT file: an element of {size} bytes, {there} are there")
        self.at = end
        return kind, self.data[begin : begin + size]


def _parse(data: bytes) -> dict[str, Any]:
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        what = "MAT 7.3 (HDF5); save it with -v7" if data[:10] == b"MATLAB 7.3" or data[:4] == b"\x89HDF" else \
            f"another kind of file ({len(data)} bytes)"
        raise DataError(f"expected a MAT file of level 5, got {what}")
    elements = _Elements(memoryview(data)[128:], "<" if data[126:128] == b"IM" else ">")
    found: dict[str, Any] = {}
    while elements:
        kind, content = elements.next()
        if kind == COMPRESSED:
            kind, content = _Elements(memoryview(_inflate(content)), elements.order).next()
            if kind != MATRIX:
                raise DataError(f"damaged MAT file: compressed data of type {kind} where a variable is due")
        if kind != MATRIX:
            continue
        name, value = _matrix(content, elements.order, 0)
        if name:
            found[name] = value
    if elements.at < len(elements.data) and any(elements.data[elements.at :]):
        raise DataError("truncated MAT file: bytes of an incomplete element at its end")
    return found


def _inflate(content: memoryview) -> bytes:
    limit = min(MAX_INFLATED, 2**16 + MAX_RATIO * len(content))
    machine = zlib.decompressobj()
    try:
        data = machine.decompress(content, limit)
    except zlib.error as error:
        raise DataError(f"damaged MAT file: {error}") from None
    if not machine.eof:
        raise DataError("truncated MAT file: a compressed variable ends early or is too large")
    return data


def _matrix(content: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Return name and value of a matrix element."""
    if depth > MAX_DEPTH:
        raise DataError(f"damaged MAT file: structs inside structs, more than {MAX_DEPTH} deep")
    elements = _Elements(content, order)
    if not content:
        return "", np.zeros((0, 0))
    flags = _numbers(elements, order)
    dims = tuple(int(n) for n in _numbers(elements, order))
    name = bytes(elements.next()[1]).decode("latin-1")
    class_ = int(flags[0]) & 0xFF if len(flags) else 0
    count = math.prod(dims)
    if not 2 <= len(dims) <= 32 or min(dims) < 0:
        raise DataError(f"damaged MAT file: variable {name!r} of dimensions {dims}")
    if class_ in CLASSES:
        if int(flags[0]) & 0x0800:
            raise DataError(f"variable {name!r} is complex; expected real numbers")
        return name, _array(elements, order, dims, CLASSES[class_], name)
    if class_ == CHAR:
        return name, _text(elements, order)
    if class_ in (CELL, STRUCT):
        return name, _nested(elements, order, class_, count, depth, name)
    raise DataError(f"variable {name!r} is of MATLAB class {class_}; expected numbers, text, cells or structs")


def _numbers(elements: _Elements, order: str) -> np.ndarray:
    kind, content = elements.next()
    if kind not in TYPES:
        raise DataError(f"damaged MAT file: an element of type {kind} where numbers are due")
    dtype = np.dtype(order + TYPES[kind])
    if len(content) % dtype.itemsize:
        raise DataError(f"damaged MAT file: {len(content)} bytes of {dtype.itemsize}-byte numbers")
    return np.frombuffer(content, dtype)


def _array(elements: _Elements, order: str, dims: tuple[int, ...], dtype: str, name: str) -> np.ndarray:
    values = _numbers(elements, order) if elements else np.zeros(0, dtype)
    if values.size != math.prod(dims):
        raise DataError(f"variable {name!r}: expected {math.prod(dims)} numbers for dimensions {dims}, "
                        f"got {values.size}")
    return values.astype(dtype, copy=False).reshape(dims, order="F")


def _text(elements: _Elements, order: str) -> str:
    values = _numbers(elements, order) if elements else np.zeros(0, "u1")
    return "".join(map(chr, values.tolist()))


def _nested(elements: _Elements, order: str, class_: int, count: int, depth: int, name: str) -> Any:
    """Return a cell as a list, a struct as a dict, or as a list where there are several."""
    names = [""]
    if class_ == STRUCT:
        width = int(_numbers(elements, order)[0])
        raw = bytes(elements.next()[1])
        if width < 1 or len(raw) % width:
            raise DataError(f"damaged MAT file: field names of struct {name!r}")
        names = [raw[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(raw), width)]
    if count * len(names) * 8 > len(elements.data):
        raise DataError(f"damaged MAT file: {name!r} declares {count} entries, more than its bytes can hold")
    rows = []
    for _ in range(count):
        row = {}
        for field in names:
            kind, content = elements.next()
            if kind != MATRIX:
                raise DataError(f"damaged MAT file: {name!r} holds an element of type {kind}")
            row[field] = _matrix(content, order, depth + 1)[1]
        rows.append(row if class_ == STRUCT else row[""])
    return rows[0] if class_ == STRUCT and count == 1 else rows


def encode_mat(variables: Mapping[str, np.ndarray]) -> bytes:
    """Return numeric arrays as an uncompressed MAT file of level 5, as the forks write their blobs.

    Parameters
    ----------
    variables : mapping of str to array
        Arrays get at least two dimensions, as MATLAB wants. Pass ``blob.transpose()`` of (N, C, H, W)
        for the forks' order.

    Raises
    ------
    ArgumentError
        Not numbers, or more than 4 GB in one variable.
    """
    text = b"MATLAB 5.0 MAT-file, written by atrouscaffe"
    parts = [text.ljust(124) + struct.pack("<H2s", 0x0100, b"IM")]
    classes = {dtype: code for code, dtype in CLASSES.items()}
    for name, given in variables.items():
        array = np.asarray(given)
        if array.dtype == bool:
            array = array.astype(np.uint8)
        kind = array.dtype.newbyteorder("=").str[1:]
        if kind not in classes:
            raise ArgumentError(f"variable {name!r}: expected real numbers, got {array.dtype}")
        if array.nbytes > 2**32 - 2**12:
            raise ArgumentError(f"variable {name!r}: expected at most 4 GB, got {array.nbytes} bytes")
        dims = array.shape if array.ndim >= 2 else (1, array.size)
        pieces = ((6, struct.pack("<II", classes[kind], 0)), (5, struct.pack(f"<{len(dims)}i", *dims)),
                  (1, name.encode("ascii")), (CODES[kind], array.astype("<" + kind).tobytes(order="F")))
        parts.append(_element(MATRIX, b"".join(_element(*piece) for piece in pieces)))
    return b"".join(parts)


def _element(kind: int, content: bytes) -> bytes:
    if 0 < len(content) <= 4:
        return struct.pack("<HH", kind, len(content)) + content.ljust(4, b"\0")
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)
