"""Solver states, binary and HDF5."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from atrouscaffe.errors import FileMissingError, SolverError
from atrouscaffe.formats.encode import tag, varint
from atrouscaffe.formats.schema import message_class
from atrouscaffe.formats.solverstate import SolverState, read_solverstate, write_solverstate
from atrouscaffe.formats.weights import open_weights


def test_recorded_states_agree(oracle):
    binary = read_solverstate(oracle / "files/snapshot_v2.solverstate")
    hdf5 = read_solverstate(oracle / "files/snapshot.solverstate.h5")
    assert (binary.iter, binary.current_step, binary.learned_net) == (4, 0, "snap_iter_4.caffemodel")
    assert (hdf5.iter, hdf5.current_step, hdf5.learned_net) == (4, 0, "snap_h5_iter_4.caffemodel.h5")
    assert [h.shape for h in binary.history] == [(4, 3, 3, 3), (4,), (3, 4, 1, 1), (3,)]
    assert all(np.array_equal(a, b) and a.shape == b.shape for a, b in zip(binary.history, hdf5.history))


def test_every_recorded_snapshot_reads(oracle):
    paths = sorted(oracle.glob("solver/*/*.solverstate*"))
    assert len(paths) > 10
    for path in paths:
        state = read_solverstate(path)
        assert state.iter == 4, path
        weights = open_weights(path.parent / state.learned_net).arrays(natural=True)
        count = sum(blob.size for blobs in weights.values() for blob in blobs)
        assert sum(h.size for h in state.history) in (count, 2 * count), path  # Adam and AdaDelta keep two


@pytest.mark.parametrize("name", ["s.solverstate", "s.solverstate.h5"])
def test_what_is_written_reads_back(tmp_path, rng, name):
    state = SolverState(7, "läst.caffemodel", 3, tuple(rng.random(s, np.float32) for s in ((2, 3), (5,), (), (0, 2))))
    write_solverstate(tmp_path / name, state)
    again = read_solverstate(tmp_path / name)
    assert (again.iter, again.learned_net, again.current_step) == (7, "läst.caffemodel", 3)
    assert all(np.array_equal(a, b) and a.shape == b.shape for a, b in zip(again.history, state.history))


def test_binary_is_what_protobuf_reads(tmp_path):
    write_solverstate(tmp_path / "s.solverstate", SolverState(7, "n", 3, (np.array([1.5, 2], np.float32),)))
    state = message_class("SolverState", "bvlc").FromString((tmp_path / "s.solverstate").read_bytes())
    assert (state.iter, state.learned_net, state.current_step) == (7, "n", 3)
    assert list(state.history[0].data) == [1.5, 2]


def test_hdf5_is_laid_out_as_caffes(tmp_path, oracle):
    write_solverstate(tmp_path / "s.h5", read_solverstate(oracle / "files/snapshot.solverstate.h5"))
    with h5py.File(tmp_path / "s.h5") as mine, h5py.File(oracle / "files/snapshot.solverstate.h5") as theirs:
        assert set(mine) == set(theirs)
        for name in ("iter", "current_step", "learned_net"):
            assert mine[name].dtype == theirs[name].dtype, name
            assert mine[name].shape == theirs[name].shape, name
            assert np.array_equal(mine[name][()], theirs[name][()]), name
        assert set(mine["history"]) == set(theirs["history"])


@pytest.mark.parametrize(("name", "data"), [
    ("s.solverstate", b""), ("s.solverstate", b"net: 'x'"), ("s.solverstate", b"\x12\x01a"), ("s.solverstate", b"\x08"),
    ("s.solverstate", tag(1, 0) + varint(-5)), ("s.solverstate", tag(1, 0) + varint(5) + tag(3, 2) + varint(9)),
    ("s.solverstate", tag(1, 0) + varint(5) + tag(3, 2) + varint(5) + tag(5, 2) + varint(3) + b"abc"),
    ("s.solverstate.h5", b""), ("s.solverstate.h5", b"\x08\x05"),
    ("s.solverstate.h5", b"\x89HDF\r\n\x1a\n" + bytes(99))])
def test_hostile_file_is_an_error(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SolverError, match=name):
        read_solverstate(tmp_path / name)


def test_hdf5_without_its_parts_is_an_error(tmp_path):
    path = tmp_path / "s.h5"
    for build, words in [
            (lambda f: None, "expected 'iter' and 'history'"),
            (lambda f: f.update(iter=np.ones(1)) or f.create_group("history"), "should be an integer"),
            (lambda f: f.update(iter=np.ones(3, int)) or f.create_group("history"), "should be one value"),
            (lambda f: f.update(iter=np.ones(1, int)) or f.create_dataset("history/1", data=np.ones(1)), "is no 0"),
            (lambda f: f.update(iter=np.ones(1, int)) or f.create_group("history/0"), "expected a dataset"),
            (lambda f: f.update(iter=np.ones(1, int), learned_net=np.ones(1)) or f.create_group("history"), "text")]:
        with h5py.File(path, "w") as file:
            build(file)
        with pytest.raises(SolverError, match=words):
            read_solverstate(path)


def test_truncation_at_every_byte(tmp_path, oracle):
    for source, name, step in (("snapshot_v2.solverstate", "s.solverstate", 1),
                               ("snapshot.solverstate.h5", "s.solverstate.h5", 67)):
        data, path, loaded = (oracle / "files" / source).read_bytes(), tmp_path / name, 0
        for n in range(0, len(data), step):
            path.unlink(missing_ok=True)
            path.write_bytes(data[:n])
            try:
                read_solverstate(path)
                loaded += 1
            except SolverError as caught:
                assert name in str(caught)
        assert loaded < 10


def test_missing_file_is_told(tmp_path):
    for name in ("s.solverstate", "s.solverstate.h5"):
        with pytest.raises(FileMissingError):
            read_solverstate(tmp_path / name)
