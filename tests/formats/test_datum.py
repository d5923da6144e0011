"""Datum: against protobuf, and damage."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import DataError
from atrouscaffe.formats.datum import parse_datum, serialize_datum
from atrouscaffe.formats.encode import tag, varint
from atrouscaffe.formats.schema import message_class


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pixels_are_what_protobuf_reads_and_writes(rng, dtype):
    array = (rng.random((3, 5, 7)) * 255).astype(dtype)
    data = serialize_datum(array, 11)
    datum = message_class("Datum", "bvlc").FromString(data)
    assert (datum.channels, datum.height, datum.width, datum.label, datum.encoded) == (3, 5, 7, 11, False)
    assert (list(datum.data) or list(datum.float_data)) == array.reshape(-1).tolist()
    for again in (parse_datum(data), parse_datum(datum.SerializeToString())):
        assert np.array_equal(again.array, array)
        assert again.array.dtype == dtype
        assert (again.label, again.channels, again.height, again.width) == (11, 3, 5, 7)


def test_encoded_image_is_passed_through():
    datum = parse_datum(serialize_datum(None, 3, encoded=b"\xff\xd8abc"))
    assert (datum.encoded, datum.data, datum.label, datum.array) == (True, b"\xff\xd8abc", 3, None)


def test_negative_label():
    assert parse_datum(serialize_datum(np.zeros((1, 1, 1), np.uint8), -1)).label == -1


def dims(c, h, w):
    return b"".join(tag(i, 0) + varint(v) for i, v in enumerate((c, h, w), 1))


@pytest.mark.parametrize("data", [
    b"", dims(1, 1, 1), dims(3, 5, 7) + tag(4, 2) + varint(104) + bytes(104), dims(-1, -1, 1) + tag(4, 2) + b"\x01a",
    dims(2**31 - 1, 2**31 - 1, 2**31 - 1) + tag(4, 2) + b"\x01a", dims(0, 1, 1), dims(1, 1, 1) + tag(4, 2) + b"\x05a",
    tag(7, 0) + b"\x01", dims(1, 1, 1) + tag(6, 2) + b"\x03abc", dims(1, 1, 1) + tag(6, 5) + b"ab", b"\x0b",
    b"\xff" * 20])
def test_hostile_datum_is_an_error_with_its_place(data):
    with pytest.raises(DataError, match="record 7"):
        parse_datum(data, "db: record 7")


def test_truncation_and_random_bytes(rng):
    data = serialize_datum(rng.random((2, 3, 2), np.float32), 1)
    loaded = 0
    for n in range(len(data)):
        try:
            loaded += parse_datum(data[:n]).array is not None
        except DataError:
            continue
    assert loaded == 0
    for _ in range(2000):
        try:
            parse_datum(rng.bytes(int(rng.integers(0, 40))))
        except DataError:
            continue


@pytest.mark.parametrize("arguments", [(None,), (np.zeros((2, 2), np.uint8),), (np.zeros((0, 2, 2), np.uint8),)])
def test_what_cannot_be_a_datum_is_refused(arguments):
    with pytest.raises(DataError):
        serialize_datum(*arguments)
    with pytest.raises(DataError):
        serialize_datum(np.zeros((1, 1, 1)), encoded=b"a")
