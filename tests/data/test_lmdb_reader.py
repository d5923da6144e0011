"""LMDB without its library, against its library; damage never crashes."""

import contextlib
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrouscaffe.data.lmdb_reader import LmdbReader
from atrouscaffe.errors import DataError, FileMissingError

lmdb = pytest.importorskip("lmdb", reason="needs the package lmdb to write databases and to compare with")


def make(folder, count, sizes, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 26) as env:
        for _ in range(2):  # several transactions, so that pages are freed and reused
            with env.begin(write=True) as transaction:
                for i in range(count):
                    transaction.put(b"%06d" % rng.integers(10**6), rng.bytes(int(rng.choice(sizes))) + bytes([i % 256]))
    return folder


def reference(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as transaction:
        return [(bytes(k), bytes(v)) for k, v in transaction.cursor()]


@pytest.mark.parametrize(("count", "sizes"), [(1, [5]), (3, [3000, 9000]), (400, [4, 70]), (500, [10, 2500, 20000])])
def test_records_equal_the_librarys(count, sizes, tmp_path):
    folder = make(tmp_path / "db", count, sizes)
    reader = LmdbReader(folder)
    assert [reader.record(i) for i in range(len(reader))] == reference(folder)
    with pytest.raises(IndexError):
        reader.record(len(reader))
    reader.close()


def test_recorded_databases_read_alike(oracle):
    folders = sorted((oracle / "cases").glob("*/db"))
    assert folders
    for folder in folders:
        reader = LmdbReader(folder)
        assert [reader.record(i) for i in range(len(reader))] == reference(folder)


def test_nothing_is_written(tmp_path):
    folder = make(tmp_path / "db", 5, [10])
    (folder / "lock.mdb").unlink()
    before = (folder / "data.mdb").read_bytes()
    folder.chmod(0o500)
    try:
        assert len(LmdbReader(folder)) == len(reference(folder))
    finally:
        folder.chmod(0o700)
    assert sorted(p.name for p in folder.iterdir()) == ["data.mdb"]
    assert (folder / "data.mdb").read_bytes() == before


def test_empty_database_has_no_records(tmp_path):
    with lmdb.open(str(tmp_path / "db")):
        pass
    assert len(LmdbReader(tmp_path / "db")) == 0


def read_all(path):
    reader = LmdbReader(path)
    return [reader.record(i) for i in range(len(reader))]


def test_truncation_is_an_error_where_the_library_would_crash(tmp_path):
    folder = make(tmp_path / "db", 60, [100, 9000])
    data = (folder / "data.mdb").read_bytes()
    for end in (0, 10, 100, 4096, 8192, 12288, len(data) // 2, len(data) - 4096):
        (folder / "data.mdb").write_bytes(data[:end])
        with pytest.raises(DataError):
            read_all(folder)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_give_records_or_an_error(tmp_path, data):
    folder = tmp_path / "db"
    if not folder.exists():
        shutil.copytree(make(tmp_path / "made", 40, [20, 300, 5000]), folder)
    content = bytearray((tmp_path / "made" / "data.mdb").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        page = data.draw(st.integers(0, len(content) // 4096 - 1))
        content[page * 4096 + data.draw(st.integers(0, 200))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "data.mdb").write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        read_all(folder)


def test_other_things_are_named(tmp_path):
    with pytest.raises(FileMissingError, match="no such database"):
        LmdbReader(tmp_path / "none")
    with pytest.raises(FileMissingError, match="data.mdb"):
        LmdbReader(tmp_path)
    (tmp_path / "CURRENT").write_text("MANIFEST-000002")
    with pytest.raises(FileMissingError, match="LevelDB"):
        LmdbReader(tmp_path)
    (tmp_path / "file").write_bytes(bytes(9000))
    with pytest.raises(DataError, match="another kind"):
        LmdbReader(tmp_path / "file")
