"""Mean files: recorded ones, both shapes, damage."""

from __future__ import annotations

import io

import numpy as np
import pytest

from atrouscaffe.errors import AtrousCaffeError, FileMissingError, WeightsError
from atrouscaffe.formats.encode import tag, varint
from atrouscaffe.formats.mean import read_mean, write_mean
from atrouscaffe.formats.schema import message_class


@pytest.mark.parametrize("name", ["mean.binaryproto", "mean_blobshape.binaryproto", "mean.npy"])
def test_recorded_mean(oracle, name):
    mean = read_mean(oracle / "files" / name)
    assert mean.dtype == np.float32
    assert np.array_equal(mean, np.load(oracle / "files/mean.npy"))


def test_mean_of_a_model(shared_data):
    mean = read_mean(shared_data / "models/cifar10_quick_h5/mean.binaryproto")
    assert mean.shape == (3, 32, 32)
    assert 100 < mean.mean() < 140


@pytest.mark.parametrize(("name", "legacy"), [("m.binaryproto", False), ("m.binaryproto", True), ("m.npy", False)])
def test_what_is_written_reads_back(tmp_path, rng, name, legacy):
    mean = rng.random((3, 5, 7), np.float32)
    write_mean(tmp_path / name, mean, legacy=legacy)
    assert np.array_equal(read_mean(tmp_path / name), mean)
    if not name.endswith("npy"):
        blob = message_class("BlobProto", "v1").FromString((tmp_path / name).read_bytes())
        assert (list(blob.shape.dim), blob.width) == (([], 7) if legacy else ([1, 3, 5, 7], 0))


def test_npy_of_one_value_a_channel(tmp_path):
    for array in (np.array([1.5, 2, 3]), np.array([[[1.5]], [[2]], [[3]]], np.float64, order="F")):
        np.save(tmp_path / "m.npy", array)
        assert np.array_equal(read_mean(tmp_path / "m.npy"), np.array([1.5, 2, 3], np.float32).reshape(3, 1, 1))


def npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    head = header.encode("latin1") + b"\n"
    size = len(head).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + head + body


@pytest.mark.parametrize("data", [
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000, 3), }", bytes(12)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3, 3), }", bytes(36)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", bytes(24)),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 1), }", bytes(8)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1), }"), npy("[" * 3000), npy("{'a': 1}"),
    npy("{", version=b"\x02\x00"), npy("{", version=b"\x09\x00"), b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"abc",
    b"", b"\x0a\x03abc", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3, 3), }")])
def test_hostile_npy_is_an_error(tmp_path, data):
    (tmp_path / "m.npy").write_bytes(data)
    with pytest.raises(WeightsError, match=r"m\.npy"):
        read_mean(tmp_path / "m.npy")


@pytest.mark.parametrize("data", [
    b"", b"\x08\x01", tag(5, 2) + varint(3) + b"abc", tag(5, 2) + varint(4) + bytes(4), b"name: 'x'",
    tag(7, 2) + varint(2) + b"\x08\x04" + tag(5, 2) + varint(16) + bytes(16) + b"\xff"])
def test_hostile_binaryproto_is_an_error(tmp_path, data):
    (tmp_path / "m.binaryproto").write_bytes(data)
    with pytest.raises(WeightsError, match=r"m\.binaryproto"):
        read_mean(tmp_path / "m.binaryproto")


def test_truncation_at_every_byte(tmp_path, oracle):
    data = (oracle / "files/mean_blobshape.binaryproto").read_bytes()
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 3, 5), np.float32))
    for name, whole in (("m.binaryproto", data), ("m.npy", stream.getvalue())):
        for n in range(len(whole)):
            (tmp_path / name).write_bytes(whole[:n])
            with pytest.raises(AtrousCaffeError, match=name):
                read_mean(tmp_path / name)


def test_caller_errors(tmp_path):
    with pytest.raises(FileMissingError):
        read_mean(tmp_path / "m.npy")
    with pytest.raises(FileMissingError):
        read_mean(tmp_path / "m.binaryproto")
    with pytest.raises(WeightsError, match=r"channels, height, width\), got \(3, 5\)"):
        write_mean(tmp_path / "m.npy", np.zeros((3, 5)))
