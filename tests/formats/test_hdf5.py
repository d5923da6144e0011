"""HDF5 weights: what Caffe writes, what may not be followed, damage."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from atrouscaffe.errors import ArgumentError, AtrousCaffeError, WeightsError
from atrouscaffe.formats.hdf5 import read_hdf5, write_hdf5
from atrouscaffe.formats.weights import open_weights


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.caffemodel.h5"


def make(path, build):
    with h5py.File(path, "w") as file:
        build(file)
    return path


def test_model_written_by_caffe_reads(shared_data):
    file = open_weights(next(shared_data.glob("models/cifar10_quick_h5/*.caffemodel.h5")))
    shapes = {layer.name: [blob.shape for blob in layer.blobs] for layer in file.layers if layer.blobs}
    assert shapes["conv1"] == [(32, 3, 5, 5), (32,)]
    assert file.net is None
    assert file.net_problem


@pytest.mark.parametrize(("half", "dtype"), [(False, "float32"), (True, "float16")])
def test_what_is_written_reads_back(path, rng, half, dtype):
    params = {"a": [rng.standard_normal((2, 3, 5)).astype(np.float32), np.float32(3)],
              "block/conv/1x1": [rng.standard_normal(7).astype(np.float32)], "block/conv": [np.zeros(0, np.float32)]}
    write_hdf5(path, params, half=half)
    file = read_hdf5(path)
    loaded = file.arrays()
    assert set(loaded) == set(params)
    for name, blobs in params.items():
        for a, b in zip(loaded[name], blobs):
            assert a.dtype == np.float32
            assert np.array_equal(a, np.asarray(b, np.float16 if half else np.float32).astype(np.float32))
    assert {blob.dtype for layer in file.layers for blob in layer.blobs} == {dtype}


def test_layout_is_caffes(path):
    write_hdf5(path, {"a/b": [np.arange(3, dtype=np.float64)]})
    with h5py.File(path) as file:
        assert file["data/a/b/0"].dtype == np.float64
        assert list(file["data/a/b/0"]) == [0, 1, 2]


def test_more_than_ten_blobs_stay_in_order(path):
    write_hdf5(path, {"a": [np.full(2, i, np.float32) for i in range(12)]})
    assert [blob[0] for blob in read_hdf5(path).arrays()["a"]] == list(range(12))


@pytest.mark.parametrize(("params", "words"), [
    ({"": [np.zeros(1)]}, "cannot hold a layer named ''"), ({"a//b": [np.zeros(1)]}, "cannot hold a layer"),
    ({"a": [np.zeros(1)], "a/0": [np.zeros(1)]}, "beside the others")])
def test_names_that_hdf5_cannot_hold(path, params, words):
    with pytest.raises(WeightsError, match=words):
        write_hdf5(path, params)
    assert not path.exists()


def test_half_refuses_what_overflows(path):
    with pytest.raises(WeightsError, match=r"blob 0 of layer 'a' has values beyond 65504"):
        write_hdf5(path, {"a": [np.array([1e5], np.float32)]}, half=True)
    write_hdf5(path, {"a": [np.array([np.inf, np.nan, 65504], np.float32)]}, half=True)
    assert np.isinf(read_hdf5(path).arrays()["a"][0][0])


def other(path):
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["data/a/0"] = np.ones(3, np.float32)
    return path.with_name("other.h5").name


BAD = {
    "no data": (lambda f, p: f.create_group("weights"), "expected a group 'data' with the layers, got weights"),
    "nothing": (lambda f, p: None, "got nothing"),
    "no layers": (lambda f, p: f.create_group("data"), "no layers"),
    "data is a dataset": (lambda f, p: f.create_dataset("data", data=np.ones(3)), "expected a group, got data"),
    "external link": (lambda f, p: f.create_group("data/a").__setitem__("0", h5py.ExternalLink(other(p), "data/a/0")),
                      "soft or external link"),
    "external layer": (lambda f, p: f.create_group("data").__setitem__("a", h5py.ExternalLink(other(p), "data/a")),
                       "soft or external link"),
    "external root": (lambda f, p: f.__setitem__("data", h5py.ExternalLink(other(p), "data")), "soft or external"),
    "soft loop": (lambda f, p: f.create_group("data/a").__setitem__("b", h5py.SoftLink("/data")), "soft or external"),
    "external storage": (lambda f, p: f.create_dataset("data/a/0", (3,), "f4", external=[("other.bin", 0, 12)]),
                         "data in another file"),
    "integers": (lambda f, p: f.create_dataset("data/a/0", data=np.arange(3)), "expected float16, float32 or float64"),
    "text": (lambda f, p: f.create_dataset("data/a/0", data="abc"), "expected float16"),
    "gap": (lambda f, p: f.create_dataset("data/a/1", data=np.ones(3)), r"numbered 0, 1, ...; got \[1\]"),
    "odd name": (lambda f, p: f.create_dataset("data/a/weight", data=np.ones(3)), "unexpected dataset 'a/weight'"),
    "never written": (lambda f, p: f.create_dataset("data/a/0", (1000, 1000, 1000), "f4"), "but 0 are stored"),
    "sparse chunks": (lambda f, p: f.create_dataset("data/a/0", (10**6, 10**6), "f4", chunks=(10, 10)), "are stored"),
    "bomb": (lambda f, p: f.create_dataset("data/a/0", (10**6, 10**5), "f4", chunks=(10, 10), compression="gzip"),
             "far more than its 0 stored bytes"),
    "cycle": (lambda f, p: f.create_group("data").__setitem__("a", f["data"]), "linked twice"),
    "deep": (lambda f, p: f.create_group("data/" + "a/" * 40), "nest deeper than 32"),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_file_is_refused(path, name):
    build, words = BAD[name]
    make(path, lambda file: build(file, path))
    with pytest.raises(WeightsError, match=words) as caught:
        read_hdf5(path).arrays()
    assert str(path) in str(caught.value)


def test_compressed_data_read(path):
    data = np.zeros((100, 100), np.float32)
    make(path, lambda file: file.create_dataset("data/a/0", data=data, compression="gzip"))
    assert np.array_equal(read_hdf5(path).arrays()["a"][0], data)


def test_links_that_multiply_groups_are_refused_at_once(path):
    def build(file):
        group = file.create_group("data")
        for _ in range(31):
            below = group.create_group("a")
            group["b"], group = below, below

    with pytest.raises(WeightsError, match="linked twice"):
        read_hdf5(make(path, build))


def test_too_many_groups_are_refused(path, monkeypatch):
    monkeypatch.setattr("atrouscaffe.formats.hdf5.MAX_GROUPS", 20)
    make(path, lambda file: [file.create_group(f"data/{i}") for i in range(30)])
    with pytest.raises(WeightsError, match="not a net"):
        read_hdf5(path)


@pytest.mark.parametrize(("data", "words"), [
    (b"", "an empty file"), (b"<html>", "HTML page"), (b"\x0a\x01a\xa2\x06\x02\x0a\x00", "to end in .caffemodel"),
    (b"layer { }\n", "did you mean to give it as the net")])
def test_content_of_another_kind_is_told(path, data, words):
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=words):
        open_weights(path)


def test_hdf5_has_no_dialect(path):
    with pytest.raises(ArgumentError, match="has no dialects"):
        open_weights(path, dialect="v1")


def test_truncation_and_flips_are_errors(path, oracle, rng):
    data = (oracle / "files/snapshot.caffemodel.h5").read_bytes()
    for n in range(0, len(data), 101):
        path.unlink(missing_ok=True)
        path.write_bytes(data[:n])
        with pytest.raises(WeightsError):
            read_hdf5(path).arrays()
    for _ in range(200):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        path.unlink()
        path.write_bytes(damaged)
        try:
            read_hdf5(path).arrays()
        except AtrousCaffeError as caught:
            assert str(path) in str(caught)
