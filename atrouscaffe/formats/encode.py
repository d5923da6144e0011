"""Records and arrays written in protobuf's wire format."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from atrouscaffe.errors import WeightsError
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import FieldType, Schema

__all__ = ["blob_parts", "encode", "tag", "varint", "write_parts"]

_FORMAT = {"float": "<f", "double": "<d"}


def varint(value: int) -> bytes:
    """Return an integer as a varint; negative ones as 64 bits, as protobuf does."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire: int) -> bytes:
    """Return the key in front of a field."""
    return varint(number << 3 | wire)


def encode(record: Record, schema: Schema, lost: set[str] | None = None) -> bytes:
    """Write a message by field number.

    Parameters
    ----------
    record : Record
    schema : Schema
        Of the dialect to write.
    lost : set of str, optional
        Gets the names of fields that the dialect does not have, as ``Message.field``.
    """
    types = schema.messages[record.type].by_name
    parts: list[tuple[int, bytes]] = []
    for name, value in record.values.items():
        field = types.get(name)
        if field is None:
            if lost is not None:
                lost.add(f"{record.type}.{name}")
            continue
        entries = value if field.repeated else [value]
        parts.append((field.number, _encode_field(field, entries, schema, lost)))
    parts.sort(key=lambda part: part[0])
    return b"".join(data for _, data in parts)


def _encode_field(field: FieldType, entries: Sequence[Any], schema: Schema, lost: set[str] | None) -> bytes:
    if field.packed and entries:
        body = b"".join(_scalar(field, entry, schema)[1] for entry in entries)
        return tag(field.number, 2) + varint(len(body)) + body
    out = []
    for entry in entries:
        if field.kind == "message":
            body = encode(entry, schema, lost)
            out.append(tag(field.number, 2) + varint(len(body)) + body)
        elif field.kind in ("string", "bytes"):
            body = entry.encode("utf-8", "surrogatepass") if isinstance(entry, str) else entry
            out.append(tag(field.number, 2) + varint(len(body)) + body)
        else:
            if field.kind == "enum" and entry not in schema.enums[field.target].numbers:
                if lost is not None:
                    lost.add(f"{field.target} {entry}")
                continue
            wire, body = _scalar(field, entry, schema)
            out.append(tag(field.number, wire) + body)
    return b"".join(out)


def _scalar(field: FieldType, value: Any, schema: Schema) -> tuple[int, bytes]:
    if field.kind in _FORMAT:
        return (5 if field.kind == "float" else 1), struct.pack(_FORMAT[field.kind], value)
    if field.kind == "enum":
        value = schema.enums[field.target].numbers[value]
    return 0, varint(int(value))


def blob_parts(array: np.ndarray, legacy: bool, diff: np.ndarray | None = None) -> list[Any]:
    """Return a BlobProto as buffers, the numbers not copied if they are float32 in C order.

    Parameters
    ----------
    array : ndarray
        float64 is written as ``double_data`` unless `legacy`, everything else as float32.
    legacy : bool
        Write num, channels, height and width, filled with ones on the left, as v1 does.
    diff : ndarray, optional
        The gradient, of the same count.

    Raises
    ------
    WeightsError
        More than four dimensions in the legacy form.
    """
    double = array.dtype == np.float64 and not legacy
    data = np.ascontiguousarray(array, "<f8" if double else "<f4")
    if legacy:
        if array.ndim > 4:
            raise WeightsError(f"v1 blobs have four dimensions, got {array.shape}")
        shape = (1,) * (4 - array.ndim) + array.shape
        head = b"".join(tag(i + 1, 0) + varint(dim) for i, dim in enumerate(shape))
    else:
        dims = b"".join(map(varint, array.shape))
        body = tag(1, 2) + varint(len(dims)) + dims if dims else b""
        head = tag(7, 2) + varint(len(body)) + body
    parts = [head + tag(8 if double else 5, 2) + varint(data.nbytes), _bytes_of(data)]
    if diff is not None:
        data = np.ascontiguousarray(diff, data.dtype)
        parts += [tag(9 if double else 6, 2) + varint(data.nbytes), _bytes_of(data)]
    return parts


def _bytes_of(data: np.ndarray) -> Any:
    return data.reshape(-1).view(np.uint8).data if data.size else b""  # a view of nothing cannot be cast


def parts_size(parts: Sequence[Any]) -> int:
    """Return the bytes in a list of buffers."""
    return sum(len(part) for part in parts)


def wrap(number: int, parts: Sequence[Any]) -> Iterator[Any]:
    """Yield buffers as the body of a length-delimited field."""
    yield tag(number, 2) + varint(parts_size(parts))
    yield from parts


def write_parts(file: BinaryIO, parts: Sequence[Any]) -> None:
    """Write buffers one after another."""
    for part in parts:
        file.write(part)
