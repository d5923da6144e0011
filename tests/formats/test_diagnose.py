"""What a file is, and why it will not load."""

from __future__ import annotations

import pytest

from atrouscaffe.errors import ArgumentError, AtrousCaffeError, FileAccessError, FileMissingError
from atrouscaffe.formats.diagnose import content_kind, kind_by_suffix
from atrouscaffe.formats.mean import read_mean
from atrouscaffe.formats.prototxt import read_net, read_solver
from atrouscaffe.formats.solverstate import read_solverstate
from atrouscaffe.formats.weights import open_weights

READERS = {"net": read_net, "solver": read_solver, "weights": open_weights, "mean": read_mean,
           "state": read_solverstate}


@pytest.mark.parametrize(("name", "kind"), [
    ("a/net.prototxt", "net"), ("solver.prototxt", "solver"), ("a.caffemodel", "weights"),
    ("a.caffemodel.h5", "weights"), ("a.HDF5", "weights"), ("m.binaryproto", "mean"), ("m.npy", "mean"),
    ("s.solverstate", "state"), ("s.solverstate.h5", "state"), ("x.PBTXT", "net")])
def test_kind_by_suffix(name, kind):
    assert kind_by_suffix(name) == kind


def test_suffix_that_says_nothing():
    with pytest.raises(ArgumentError, match=r"cannot tell what model.bin is.*\.caffemodel"):
        kind_by_suffix("model.bin")


@pytest.mark.parametrize(("head", "content"), [
    (b"", "empty"), (b"layer { }", "text"), (b"\xef\xbb\xbf# c\nname: 'x'", "text"), (b"  <!DOCTYPE HTML>", "html"),
    (b"<html>", "html"), (b"version https://git-lfs.github.com/spec/v1", "lfs"), (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY\x01", "npy"), (b"PK\x03\x04", "archive"), (b"\x1f\x8b", "archive"), (b"\x89PNG", "image"),
    (bytes(50), "zeros"), (b"\x0a\x01a\xa2\x06\x05", "binary")])
def test_content_by_first_bytes(head, content):
    assert content_kind(head)[0] == content


def test_sound_files_are_read_by_the_reader_of_their_kind(oracle):
    for name in ("net_v0.prototxt", "legacy_v1.caffemodel", "snapshot.caffemodel.h5", "mean.binaryproto", "mean.npy",
                 "snapshot_v2.solverstate", "snapshot.solverstate.h5"):
        assert READERS[kind_by_suffix(name)](oracle / "files" / name) is not None


PROBLEMS = [("w.caffemodel", b"", "empty", "download or copy it again"),
            ("w.caffemodel", b"<html>404</html>", "html", "web page"),
            ("w.caffemodel", b"version https://git-lfs.github.com/spec/v1\noid", "lfs", "git lfs pull"),
            ("w.caffemodel", b'name: "x"\nlayer {}', "text", "did you mean to give it as the net?"),
            ("n.prototxt", b"\x0a\x01a\xa2\x06\x02\x0a\x00", "binary", "weights go where weights are asked for"),
            ("w.caffemodel", b"\xa2\x06\x09\x0a\x01a", "binary", "truncated: field 100 declares 9 bytes, 3 are there"),
            ("w.h5", b"\xa2\x06\x03\x0a\x01a", "binary", "end in .caffemodel"),
            ("w.caffemodel", b"\x89HDF\r\n\x1a\n", "hdf5", "rename it to end in .h5"),
            ("m.binaryproto", b"\x93NUMPY\x01\x00", "npy", "rename it to end in .npy"),
            ("w.caffemodel", b"PK\x03\x04" + bytes(9), "archive", "unpack it first"),
            ("n.prototxt", b"layer { nam: 'x' }", "text", "did you mean 'name'?"),
            ("solver.prototxt", b"base_lr: fast", "text", "a number for 'base_lr'")]


@pytest.mark.parametrize(("name", "data", "content", "words"), PROBLEMS)
def test_problem_says_what_it_is_and_what_to_do(tmp_path, name, data, content, words):
    path = tmp_path / name
    path.write_bytes(data)
    assert content_kind(data)[0] == content
    with pytest.raises(AtrousCaffeError) as caught:
        READERS[kind_by_suffix(path)](path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_at_all(tmp_path):
    with pytest.raises(FileMissingError):
        read_net(tmp_path / "n.prototxt")
    with pytest.raises(FileAccessError):
        read_net(tmp_path)
