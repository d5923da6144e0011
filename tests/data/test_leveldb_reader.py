"""LevelDB without its library, against its library; damage never crashes, nothing is written."""

from __future__ import annotations

import contextlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrouscaffe.data.leveldb_reader import LevelDbReader
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError, FileMissingError

plyvel = pytest.importorskip("plyvel", reason="needs the package plyvel (Python 3.11 or 3.12) to write databases")


def make(folder: Path, count: int, sizes: list[int], *, buffer: int = 1 << 22, compression: str | None = "snappy",
         seed: int = 0) -> Path:
    """Write records of random keys, some twice, some gone again; half of each value is zeros, for Snappy."""
    rng = np.random.default_rng(seed)
    with contextlib.closing(plyvel.DB(str(folder), create_if_missing=True, write_buffer_size=buffer,
                                      compression=compression)) as db:
        for i in range(count):
            size = int(rng.choice(sizes))
            db.put(b"%06d" % rng.integers(10**6 if i % 2 else 50), rng.bytes(size // 2) + bytes(size - size // 2))
            if i % 7 == 3:
                db.delete(b"%06d" % rng.integers(50))
    return folder


def reference(folder: Path) -> list[tuple[bytes, bytes]]:
    """Read by the library, from a copy: opening changes a database."""
    copy = folder.with_name(folder.name + "_copy")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    with contextlib.closing(plyvel.DB(str(copy))) as db:
        return list(db)


def read_all(folder: Path) -> list[tuple[bytes, bytes]]:
    reader = LevelDbReader(folder)
    records = [reader.record(i) for i in range(len(reader))]
    reader.close()
    return records


@pytest.mark.parametrize("compression", ["snappy", None])
@pytest.mark.parametrize(("count", "sizes", "buffer"), [(1, [5], 1 << 22), (300, [4, 70], 1 << 22),
                                                       (200, [100, 9000, 70000], 1 << 16), (900, [2, 900], 1 << 16)])
def test_records_equal_the_librarys(count, sizes, buffer, compression, tmp_path):
    folder = make(tmp_path / "db", count, sizes, buffer=buffer, compression=compression)
    assert bool(list(folder.glob("*.ldb"))) == (buffer == 1 << 16)  # in tables, or in the log alone
    assert read_all(folder) == reference(folder)


def test_tables_that_were_merged_and_records_that_went_read_alike(tmp_path):
    folder = make(tmp_path / "db", 400, [3000], buffer=1 << 16)
    with contextlib.closing(plyvel.DB(str(folder), write_buffer_size=1 << 16)) as db:
        db.compact_range()
        for key, _ in list(db)[::3]:
            db.delete(key)
        db.put(b"000001", b"late")
    found = read_all(folder)
    assert found == reference(folder)
    assert dict(found)[b"000001"] == b"late"


def test_empty_database_and_places_outside(tmp_path):
    plyvel.DB(str(tmp_path / "db"), create_if_missing=True).close()
    reader = LevelDbReader(tmp_path / "db")
    assert len(reader) == 0
    with pytest.raises(IndexError):
        reader.record(0)


def test_nothing_is_written(tmp_path):
    folder = make(tmp_path / "db", 60, [9000], buffer=1 << 16)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(0o500)
    try:
        read_all(folder)
    finally:
        folder.chmod(0o700)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_log_that_ends_in_a_records_middle_gives_those_before(tmp_path):
    folder = make(tmp_path / "db", 30, [100])
    log, = folder.glob("*.log")
    whole = read_all(folder)
    log.write_bytes(log.read_bytes()[:-20])
    assert 0 < len(read_all(folder)) <= len(whole)
    assert read_all(folder) == reference(folder)


@pytest.mark.parametrize("name", ["*.ldb", "MANIFEST-*", "CURRENT"])
def test_truncation_is_an_error_or_an_earlier_state(name, tmp_path):
    """A manifest that ends early is what LevelDB leaves when it is killed: its last whole edit counts."""
    folder = make(tmp_path / "db", 60, [9000], buffer=1 << 16)
    file = sorted(folder.glob(name))[0]
    data = file.read_bytes()
    for end in (0, 3, len(data) // 2, len(data) - 2):
        file.write_bytes(data[:end])
        try:
            found = read_all(folder)
        except (DataError, FileMissingError):
            continue
        assert name == "MANIFEST-*" and end > 3
        assert len({key for key, _ in found}) == len(found)  # with values and deletions of that time


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_give_the_records_or_an_error(tmp_path, data):
    made, folder = tmp_path / "made", tmp_path / "db"
    if not made.exists():
        make(made, 120, [20, 300, 5000], buffer=1 << 16)
        shutil.copytree(made, folder)
    files = sorted(path.name for path in made.iterdir() if path.suffix in (".ldb", ".log") or "MANIFEST" in path.name)
    name = data.draw(st.sampled_from(files))
    content = bytearray((made / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(bytes(content))
    try:
        with contextlib.suppress(DataError, FileMissingError):
            found = read_all(folder)
            # A log whose last record is said to be longer ends there, as after a crash. All else has checksums.
            assert name.endswith(".log") or found == read_all(made)
    finally:
        shutil.copy(made / name, folder / name)


def test_wrong_sums_of_values_are_found_when_they_are_read(tmp_path):
    folder = tmp_path / "db"
    with contextlib.closing(plyvel.DB(str(folder), create_if_missing=True, write_buffer_size=1 << 16,
                                      compression=None)) as db:
        for i in range(9):
            db.put(b"%d" % i, bytes(40000))
    file = sorted(folder.glob("*.ldb"))[0]
    content = bytearray(file.read_bytes())
    content[9000] ^= 1
    file.write_bytes(bytes(content))
    reader = LevelDbReader(folder)
    with pytest.raises(DataError, match="checksum"):
        [reader.record(i) for i in range(len(reader))]


def with_sum(crc, data: bytes) -> bytes:
    value = crc.value(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def test_a_block_that_would_grow_beyond_reason_is_refused(tmp_path):
    """A Snappy block of a few bytes that says that it holds 4 GB, with a right checksum."""
    import google_crc32c

    folder = make(tmp_path / "db", 20, [40000], buffer=1 << 16)
    file = sorted(folder.glob("*.ldb"))[0]
    content = bytearray(file.read_bytes())
    bomb = b"\xff\xff\xff\xff\x0f" + bytes(20)
    block = bomb + b"\x01"
    content[:len(block) + 4] = block + with_sum(google_crc32c, block)
    index = b"\x00\x09\x02" + b"k" * 9 + bytes([0, len(bomb)]) + struct.pack("<II", 0, 1)
    at = len(content) - 48 - len(index) - 5
    content[at:-48] = index + b"\x00" + with_sum(google_crc32c, index + b"\x00")
    handle = bytes([0, 0])
    for value in (at, len(index)):
        while value >= 128:
            handle, value = handle + bytes([value & 127 | 128]), value >> 7
        handle += bytes([value])
    content[-48:-8] = handle.ljust(40, b"\x00")
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match="too large"):
        LevelDbReader(folder)


@pytest.mark.parametrize(("manifest", "words"), [
    (b"\x01\x04look", "order of their bytes"), (b"\x63", "field 99"), (b"\x02\x01", "newest"),
    (b"\x07\x63\x01\x01\x01a\x01b", "level"), (b"\x07\x00\xff", "reaches beyond"),
    (b"\x02\x01\x03\x01\x04\x01\x07\x00\x63\x01\x01a\x01b", "000099.ldb is not there"),
    (b"\x01\xff\xff\xff\xff\x0f", "reaches beyond")])
def test_manifests_that_cannot_be_are_told(manifest, words, tmp_path):
    import google_crc32c

    (tmp_path / "CURRENT").write_text("MANIFEST-000002\n")
    body = b"\x01" + manifest
    (tmp_path / "MANIFEST-000002").write_bytes(with_sum(google_crc32c, body) + struct.pack("<H", len(manifest)) + body)
    with pytest.raises(AtrousCaffeError, match=words):
        LevelDbReader(tmp_path)


def test_other_things_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileMissingError, match="no such database"):
        LevelDbReader(tmp_path / "none")
    with pytest.raises(FileMissingError, match="CURRENT"):
        LevelDbReader(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"")
    with pytest.raises(FileMissingError, match="backend: LMDB"):
        LevelDbReader(tmp_path)
    for content in (b"", b"../../etc/passwd\n", b"MANIFEST-../x", b"\xff\xfe"):
        (tmp_path / "CURRENT").write_bytes(content)
        with pytest.raises(DataError, match="name of a manifest"):
            LevelDbReader(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "cramjam", None)
    with pytest.raises(ArgumentError, match="cramjam.*atrouscaffe\\[leveldb\\]"):
        LevelDbReader(tmp_path)
