"""Datum: one image with its label, as Caffe's databases hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from atrouscaffe.errors import DataError
from atrouscaffe.formats.encode import encode, tag
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import schema
from atrouscaffe.formats.wire import FileBytes, Reader

__all__ = ["Datum", "parse_annotated_datum", "parse_datum", "serialize_datum"]

MAX_PIXELS = 1 << 30


@dataclass(frozen=True)
class Datum:
    """One record of a database.

    Attributes
    ----------
    channels, height, width : int
        0 where an encoded image leaves them out.
    data : bytes
        The pixels, or with `encoded` a JPEG or PNG file; empty if `float_data` has the pixels.
    float_data : ndarray of float32
        Empty unless the pixels are floats.
    encoded : bool
    label : int
    """

    channels: int
    height: int
    width: int
    data: bytes
    float_data: np.ndarray
    encoded: bool
    label: int

    @property
    def array(self) -> np.ndarray | None:
        """The pixels, (C, H, W) uint8 or float32; None if they are encoded."""
        if self.encoded:
            return None
        flat = np.frombuffer(self.data, np.uint8) if self.data else self.float_data
        return flat.reshape(self.channels, self.height, self.width)


def parse_datum(data: bytes, where: str = "<datum>") -> Datum:
    """Read a serialized Datum.

    Parameters
    ----------
    data : bytes
    where : str, optional
        Named in errors, such as the database and key.

    Raises
    ------
    DataError
        Damage, or a shape that does not fit the bytes that are there.
    """
    return _datum(Reader(FileBytes(data, where), schema("bvlc"), DataError).message("Datum"), where)


def parse_annotated_datum(data: bytes, where: str = "<datum>") -> tuple[Datum, np.ndarray]:
    """Read a serialized AnnotatedDatum of SSD.

    Returns
    -------
    datum : Datum
    boxes : (n, 7) float32
        Class, instance, xmin, ymin, xmax, ymax in fractions of the image, difficult.

    Raises
    ------
    DataError
        Damage, no image, or a corner that is no number.
    """
    record = Reader(FileBytes(data, where), schema("ssd"), DataError).message("AnnotatedDatum")
    if record.get("datum") is None:
        raise DataError("an AnnotatedDatum without an image", where)
    rows = []
    for group in record.get("annotation_group", []):
        for annotation in group.get("annotation", []):
            box = annotation.get("bbox") or Record("NormalizedBBox")
            corners = [box.get(word, 0.0) for word in ("xmin", "ymin", "xmax", "ymax")]
            rows.append([group.get("group_label", 0), annotation.get("instance_id", 0), *corners,
                         box.get("difficult", False)])
    boxes = np.array(rows, np.float32).reshape(-1, 7)
    if not np.isfinite(boxes).all():
        raise DataError("a box with a corner that is not finite", where)
    return _datum(record.get("datum"), where), boxes


def _datum(record: Record, where: str) -> Datum:
    """Return a record's Datum; DataError where its shape does not fit the bytes that are there."""
    pixels, floats = record.get("data", b""), record.get("float_data")
    shape = (record.get("channels", 0), record.get("height", 0), record.get("width", 0))
    encoded = record.get("encoded", False)
    if encoded and not pixels:
        raise DataError("an encoded Datum without data", where)
    if not encoded:
        if any(dim < 1 for dim in shape) or math.prod(shape) > MAX_PIXELS:
            raise DataError(f"a Datum of shape {shape}; expected positive channels, height and width", where)
        there = len(pixels) or (0 if floats is None else len(floats))
        if there != math.prod(shape):
            raise DataError(f"a Datum of shape {shape} needs {math.prod(shape)} values, {there} are there", where)
    loaded = np.empty(0, np.float32) if floats is None or pixels else floats.load()
    return Datum(*shape, pixels, loaded, encoded, record.get("label", 0))


def serialize_datum(array: np.ndarray | None, label: int = 0, *, encoded: bytes | None = None) -> bytes:
    """Write a Datum.

    Parameters
    ----------
    array : (C, H, W) uint8 or floating, or None
        Floats are written as ``float_data``.
    label : int, optional
    encoded : bytes, optional
        A JPEG or PNG file in place of `array`.

    Raises
    ------
    DataError
        Neither or both, or another number of dimensions.
    """
    if (array is None) == (encoded is None):
        raise DataError("give either an array or an encoded image")
    values: dict[str, object] = {"label": int(label)}
    if array is None:
        values.update(data=bytes(encoded or b""), encoded=True)
        return encode(Record("Datum", values), schema("bvlc"))
    array = np.asarray(array)
    if array.ndim != 3 or array.size == 0:
        raise DataError(f"expected an array of shape (channels, height, width), got {array.shape}")
    values.update(zip(("channels", "height", "width"), array.shape))
    if array.dtype == np.uint8:
        values["data"] = array.tobytes()
        return encode(Record("Datum", values), schema("bvlc"))
    floats = np.ascontiguousarray(array, "<f4").reshape(-1)
    keyed = np.empty(floats.size, [("key", "u1"), ("value", "<f4")])  # Caffe does not pack them
    keyed["key"], keyed["value"] = tag(schema("bvlc")["Datum"].by_name["float_data"].number, 5)[0], floats
    return encode(Record("Datum", values), schema("bvlc")) + keyed.tobytes()
