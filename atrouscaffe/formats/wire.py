"""Protobuf's wire format, read by the schema without copying the numbers.

A file is mapped into memory and walked once. Long runs of floats (blobs, Datum) are not read but
remembered as `Numbers`: where they lie, how many, how far apart. Everything is checked against the
bytes that are there before anything is made of it, and every error names the byte.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.errors import AtrousCaffeError, FileAccessError, FileMissingError, WeightsError
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import FieldType, Schema

__all__ = ["FileBytes", "Numbers", "Reader"]

MAX_FIELDS = 2_000_000
"""Fields other than numbers in blobs that one file may have; the largest nets have some 10 000."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SCALAR = {"int32": VARINT, "int64": VARINT, "uint32": VARINT, "uint64": VARINT, "bool": VARINT, "enum": VARINT,
           "float": FIXED32, "double": FIXED64}
_RANGE = {"int32": (-2**31, 2**31 - 1), "int64": (-2**63, 2**63 - 1), "uint32": (0, 2**32 - 1),
          "uint64": (0, 2**64 - 1)}
_BULK = {("BlobProto", "data"), ("BlobProto", "diff"), ("BlobProto", "double_data"), ("BlobProto", "double_diff"),
         ("Datum", "float_data")}
_CHUNK = 16 << 20


class FileBytes:
    """The bytes of a file, mapped and read only; or bytes in memory.

    Parameters
    ----------
    data : buffer
        What the mapping gives.
    path : str
        Named in errors.
    """

    def __init__(self, data: Any, path: str = "<bytes>") -> None:
        self.view = memoryview(data)
        self.path = path
        self._map = data if isinstance(data, mmap.mmap) else None

    def __len__(self) -> int:
        return len(self.view)

    @classmethod
    def open(cls, path: str | Path) -> FileBytes:
        """Map a file.

        Raises
        ------
        FileMissingError, FileAccessError
            No such file; no right to read it; a folder.
        """
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    return cls(b"", str(path))
                return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))
        except FileNotFoundError:
            raise FileMissingError(f"no such file: {path}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FileAccessError(f"cannot read {path}: {reason}") from None

    def forget(self, start: int, stop: int) -> None:
        """Let the system take back the mapped pages inside a range that was copied."""
        if self._map is None or not hasattr(self._map, "madvise"):
            return
        page = mmap.PAGESIZE
        first, last = -(-start // page) * page, stop // page * page
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


class Numbers:
    """Runs of little-endian floats inside a file.

    Attributes
    ----------
    dtype : str
        ``"<f4"`` or ``"<f8"``.
    runs : list of (int, int, int)
        Offset of the first number, count, and bytes from one to the next (more than its size
        where the writer did not pack them).
    """

    __slots__ = ("dtype", "runs", "source")

    def __init__(self, source: FileBytes, dtype: str) -> None:
        self.source, self.dtype = source, dtype
        self.runs: list[tuple[int, int, int]] = []

    def __len__(self) -> int:
        return sum(count for _, count, _ in self.runs)

    @property
    def offset(self) -> int:
        """Offset of the first number; 0 if there is none."""
        return self.runs[0][0] if self.runs else 0

    def load(self) -> np.ndarray:
        """Copy the numbers into an array of float32."""
        out = np.empty(len(self), np.float32)
        size, at = int(self.dtype[-1]), 0
        for offset, count, stride in self.runs:
            step = _CHUNK // stride
            for begin in range(0, count, step):
                n = min(step, count - begin)
                start = offset + begin * stride
                stop = start + (n - 1) * stride + size
                with np.errstate(over="ignore"):
                    out[at:at + n] = np.ndarray((n,), self.dtype, self.source.view, start, (stride,))
                self.source.forget(start, stop)
                at += n
        return out


class Reader:
    """Walks messages in the bytes of a file.

    Parameters
    ----------
    source : FileBytes
    schema : Schema
        Of the dialect that wrote the file.
    error : type, optional
        The error to raise.

    Attributes
    ----------
    unknown : Counter of str
        Fields that the schema does not know, as ``Message.number``, with how often they came.
    """

    def __init__(self, source: FileBytes, schema: Schema, error: type[AtrousCaffeError] = WeightsError) -> None:
        self.source, self.schema, self.error = source, schema, error
        self.view = source.view
        self.unknown: Counter[str] = Counter()
        self.count = 0
        self._jump = 0

    def fail(self, message: str, offset: int) -> None:
        """Raise the reader's error for a byte of the file."""
        raise self.error(f"{message} (byte {offset} of {len(self.view)})", self.source.path)

    def varint(self, pos: int, end: int) -> tuple[int, int]:
        """Read a varint; return it and the offset behind it."""
        view, value, shift, start = self.view, 0, 0, pos
        while pos < end:
            byte = view[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, pos
            shift += 7
            if shift > 63:
                self.fail("a number of more than ten bytes: the file is damaged or of another kind", start)
        self.fail("truncated: the data end inside a number", start)
        return 0, pos

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, Any, int, int]]:
        """Iterate the fields of a message.

        Yields
        ------
        (number, wire type, value, begin, stop)
            The value of a varint; for the others None and the range of its bytes.
        """
        pos = start
        while pos < end:
            self.count += 1
            if self.count > MAX_FIELDS:
                self.fail(f"more than {MAX_FIELDS} fields: not a net", pos)
            at = pos
            tag, pos = self.varint(pos, end)
            number, wire = tag >> 3, tag & 7
            if number == 0 or number > 0x1FFFFFFF:
                self.fail(f"field number {number}: the file is damaged or of another kind", at)
            value = None
            begin = pos
            if wire == VARINT:
                value, pos = self.varint(pos, end)
            elif wire == BYTES:
                size, begin = self.varint(pos, end)
                if size > end - begin:
                    self.fail(f"truncated: field {number} declares {size} bytes, {end - begin} are there", at)
                pos = begin + size
            elif wire in (FIXED32, FIXED64):
                pos = begin + (4 if wire == FIXED32 else 8)
                if pos > end:
                    self.fail(f"truncated: field {number} needs {pos - begin} bytes, {end - begin} are there", at)
            else:
                self.fail(f"wire type {wire} of field {number}, which Caffe never writes: the file is damaged "
                          "or of another kind", at)
            yield number, wire, value, begin, pos
            if self._jump:
                pos, self._jump = self._jump, 0

    def message(self, name: str, start: int = 0, end: int | None = None, into: Record | None = None) -> Record:
        """Read a message.

        Parameters
        ----------
        name : str
            Its type.
        start, end : int
            Where it lies; the whole file by default.
        into : Record, optional
            A message of the same field that came before; this one is merged into it.

        Returns
        -------
        Record
            Enums as names; runs of floats in blobs as `Numbers`.
        """
        record = Record(name) if into is None else into
        types = self.schema.messages[name].by_number
        end = len(self.view) if end is None else end
        for number, wire, value, begin, stop in self.fields(start, end):
            field = types.get(number)
            if field is None:
                self.unknown[f"{name}.{number}"] += 1
            elif (name, field.name) in _BULK and wire in (_SCALAR[field.kind], BYTES):
                self._bulk(record, field, wire, begin, stop, end)
            elif field.kind == "message" and wire == BYTES:
                if field.repeated:
                    record.values.setdefault(field.name, []).append(self.message(field.target, begin, stop))
                else:
                    record.values[field.name] = self.message(field.target, begin, stop, record.get(field.name))
            elif field.kind in ("string", "bytes") and wire == BYTES:
                data = bytes(self.view[begin:stop])
                self._put(record, field, data if field.kind == "bytes" else data.decode("utf-8", "backslashreplace"))
            elif field.kind in _SCALAR and wire == _SCALAR[field.kind]:
                self._scalar(record, field, value, begin)
            elif field.kind in _SCALAR and wire == BYTES and field.repeated:
                self._packed(record, field, begin, stop)
            else:
                self.unknown[f"{name}.{field.name} of wire type {wire}"] += 1
        return record

    def _put(self, record: Record, field: FieldType, value: Any) -> None:
        if field.repeated:
            record.values.setdefault(field.name, []).append(value)
        else:
            record.values[field.name] = value

    def _scalar(self, record: Record, field: FieldType, value: Any, begin: int) -> None:
        kind = field.kind
        if kind == "float":
            value = struct.unpack_from("<f", self.view, begin)[0]
        elif kind == "double":
            value = struct.unpack_from("<d", self.view, begin)[0]
        elif kind == "bool":
            value = value != 0
        else:
            signed = value - (1 << 64) if value >= 1 << 63 and kind != "uint64" else value
            if kind == "enum":
                value = self.schema.enums[field.target].names.get(signed)
            else:
                low, high = _RANGE[kind]
                value = signed if low <= signed <= high else None
            if value is None:
                self.unknown[f"{record.type}.{field.name}={signed}"] += 1
                return
        self._put(record, field, value)

    def _packed(self, record: Record, field: FieldType, begin: int, stop: int) -> None:
        record.values.setdefault(field.name, [])
        size = {FIXED32: 4, FIXED64: 8}.get(_SCALAR[field.kind], 0)
        if size and (stop - begin) % size:
            self.fail(f"'{field.name}' of {record.type} has {stop - begin} bytes, not a multiple of {size}", begin)
        pos = begin
        while pos < stop:
            self.count += 1
            if self.count > MAX_FIELDS:
                self.fail(f"more than {MAX_FIELDS} fields: not a net", pos)
            if size:
                self._scalar(record, field, None, pos)
                pos += size
            else:
                value, pos = self.varint(pos, stop)
                self._scalar(record, field, value, pos)

    def _bulk(self, record: Record, field: FieldType, wire: int, begin: int, stop: int, end: int) -> None:
        """Remember a run of floats: packed bytes, or one number with its own tag."""
        size = 4 if field.kind == "float" else 8
        numbers = record.values.get(field.name)
        if numbers is None:
            numbers = record.values[field.name] = Numbers(self.source, f"<f{size}")
        if wire == BYTES:
            if (stop - begin) % size:
                self.fail(f"'{field.name}' of {record.type} has {stop - begin} bytes, not a multiple of {size}", begin)
            if stop > begin:
                numbers.runs.append((begin, (stop - begin) // size, size))
            return
        count = 1 + self._more(field.number << 3 | wire, begin + size, end, size + 1)
        numbers.runs.append((begin, count, size + 1))
        self._jump = begin + count * (size + 1) - 1

    def _more(self, key: int, start: int, end: int, stride: int) -> int:
        """Count how many more numbers follow, each with the same one-byte tag in front."""
        count, limit = 0, (end - start) // stride
        while count < limit:
            step = min(limit - count, 1 << 20)
            tags = np.ndarray((step,), np.uint8, self.view, start + count * stride, (stride,))
            other = np.flatnonzero(tags != key)
            if other.size:
                return count + int(other[0])
            count += step
        return count
