"""LevelDB databases, read without the LevelDB library: no lock, no recovery that writes, no crash on damage.

The library changes a database when it opens it: it takes a lock, replays the log into a new table and
writes a new manifest. This reader only reads. The format (LevelDB's ``doc/table_format.md``,
``doc/log_format.md``, ``db/version_edit.cc``): ``CURRENT`` names a manifest, which lists the live
tables; each table is a file of blocks, sorted by key and sequence number, with an index; the newest
records stand in a log. Of the records of one key the one with the highest sequence number holds,
which may say that the key is gone. Blocks are compressed by Snappy where that makes them smaller.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from atrouscaffe.data.image import read_bytes
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError, FileAccessError, FileMissingError

__all__ = ["LevelDbReader"]

TABLE_MAGIC, FOOTER = 0xDB4775248B80FB57, 48
LOG_BLOCK, LOG_HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
DELETION, VALUE = 0, 1
TRAILER = 5  # of a block: how it is compressed, and its checksum
PLAIN, SNAPPY = 0, 1
SNAPPY_GAIN = 64  # no Snappy stream holds more than that for each of its bytes
MOST_MANIFEST = 2**26
MOST_LOG = 2**30
MOST_LEVELS = 7


class Place(NamedTuple):
    """Where a value lies: in a block of a table, or, with no table, in a log that was read."""

    table: mmap.mmap | None
    block: int
    size: int
    begin: int
    end: int
    data: bytes = b""


def _libraries() -> tuple[Any, Any]:
    """Return the modules that decompress Snappy and compute CRC-32C."""
    try:
        import cramjam
        import google_crc32c
    except ImportError as error:
        raise ArgumentError(f"reading LevelDB needs the package {str(error.name).replace('_', '-')}; "
                            "pip install 'atrouscaffe[leveldb]', or convert the database to LMDB") from None
    return cramjam, google_crc32c


class _Words:
    """Numbers and strings of variable length, one after the other; IndexError where they end too early."""

    def __init__(self, data: bytes | memoryview, at: int = 0, end: int | None = None) -> None:
        self.data, self.at = data, at
        self.end = len(data) if end is None else end

    def number(self) -> int:
        """Return the next varint."""
        value = shift = 0
        while shift < 64:
            if self.at >= self.end:
                raise IndexError
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise IndexError

    def skip(self, size: int) -> int:
        """Step over `size` bytes and return where they begin."""
        begin = self.at
        if begin + size > self.end:
            raise IndexError
        self.at += size
        return begin

    def string(self) -> bytes:
        """Return the next string with its length in front."""
        size = self.number()
        begin = self.skip(size)
        return bytes(self.data[begin:begin + size])


class LevelDbReader:
    """The records of a LevelDB database in the order of their keys.

    Opening reads the keys of all records (and decompresses the blocks that are compressed), for the
    number of records is written nowhere.

    Parameters
    ----------
    path : path
        The folder with ``CURRENT``.

    Raises
    ------
    FileMissingError, FileAccessError
        No such folder, or one of its files is not there.
    DataError
        Not LevelDB, truncated, or damaged.
    ArgumentError
        A package that is needed is not installed.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        self._folder = Path(path)
        self._snappy, self._crc = _libraries()
        if not self._folder.is_dir():
            raise FileMissingError("no such database; expected a folder with CURRENT", self.path)
        if not (self._folder / "CURRENT").exists():
            lmdb = (self._folder / "data.mdb").exists()
            raise FileMissingError("expected a folder with CURRENT, got " + (
                "an LMDB database; say backend: LMDB (LEVELDB is the default)" if lmdb else "no database"), self.path)
        current = read_bytes(self._folder / "CURRENT", 4096, "CURRENT of a LevelDB")
        name = current.decode("ascii", "replace").rstrip("\n")
        if not name.startswith("MANIFEST-") or not name[9:].isdigit():
            raise DataError(f"expected the name of a manifest, got {name[:60]!r}", str(self._folder / "CURRENT"))
        self._maps: list[mmap.mmap] = []
        self._last: tuple[Any, int, bytes] = (None, 0, b"")  # the block that was read last
        newest: dict[bytes, tuple[int, Place | None]] = {}
        try:
            tables, log = self._manifest(name)
            for number, size in sorted(tables.items()):
                self._collect(self._table(number, size), newest)
            for number in self._logs(log):
                self._collect(self._log_entries(number), newest)
        except (IndexError, struct.error):
            raise self._fail("a number or string reaches beyond its record") from None
        self._records = sorted((key, place) for key, (_, place) in newest.items() if place is not None)

    def __len__(self) -> int:
        """Number of records."""
        return len(self._records)

    def record(self, index: int) -> tuple[bytes, bytes]:
        """Return key and value of record `index`, counted in key order.

        Raises
        ------
        DataError
            The block with the value is damaged.
        """
        if not 0 <= index < len(self._records):
            raise IndexError(index)
        key, place = self._records[index]
        if place.table is None:
            return key, place.data
        last = self._last  # taken once: another thread may put its block there
        if last[0] is not place.table or last[1] != place.block:
            self._last = last = (place.table, place.block, bytes(self._block(place.table, place.block, place.size)))
        return key, last[2][place.begin:place.end]

    def close(self) -> None:
        """Unmap the files."""
        self._last = (None, 0, b"")
        for each in self._maps:
            each.close()

    def _fail(self, what: str, file: str = "") -> DataError:
        where = str(self._folder / file) if file else self.path
        return DataError(f"damaged LevelDB database: {what}; copy or make it again", where)

    @staticmethod
    def _collect(entries: Iterator[tuple[bytes, int, Place | None]], newest: dict) -> None:
        """Keep the record with the highest sequence number of each key."""
        for key, sequence, place in entries:
            if key not in newest or newest[key][0] < sequence:
                newest[key] = sequence, place

    def _check(self, data: bytes | memoryview, masked: int, what: str, file: str = "") -> None:
        crc = self._crc.value(bytes(data))
        if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != masked:
            raise self._fail(f"the checksum of {what} is wrong", file)

    # -- logs and the manifest ------------------------------------------------------------------

    def _log(self, name: str, limit: int, whole: bool) -> Iterator[bytes]:
        """Yield the records of a file in the form of a log; where it need not be `whole` it may end in one's middle."""
        data = read_bytes(self._folder / name, limit, "file of a LevelDB")
        parts: list[bytes] = []
        at = 0
        while at + LOG_HEADER <= len(data):
            left = LOG_BLOCK - at % LOG_BLOCK
            if left < LOG_HEADER:
                at += left
                continue
            crc, size, kind = struct.unpack_from("<IHB", data, at)
            if not any(data[at:at + LOG_HEADER]):  # room that was made and not used
                at += left
                continue
            end = at + LOG_HEADER + size
            if end > len(data) and not whole:
                return
            if size > left - LOG_HEADER or end > len(data) or kind not in (FULL, FIRST, MIDDLE, LAST):
                raise self._fail(f"a record of kind {kind} with {size} bytes at byte {at}", name)
            self._check(data[at + 6:end], crc, f"the record at byte {at}", name)
            if bool(parts) != (kind in (MIDDLE, LAST)):
                raise self._fail(f"a part without its others at byte {at}", name)
            parts.append(data[at + LOG_HEADER:end])
            if kind in (FULL, LAST):
                yield b"".join(parts)
                parts = []
            at = end
        if whole and (parts or at < len(data)):
            raise self._fail("its end is missing", name)

    def _manifest(self, name: str) -> tuple[dict[int, int], int]:
        """Return the live tables with their sizes, and the number of the oldest log that counts."""
        tables: dict[int, int] = {}
        said: dict[int, int] = {}
        for edit in self._log(name, MOST_MANIFEST, whole=True):
            words = _Words(edit)
            while words.at < words.end:
                tag = words.number()
                if tag == 1:
                    comparator = words.string()
                    if comparator != b"leveldb.BytewiseComparator":
                        raise DataError(f"expected keys in the order of their bytes, got {comparator[:60]!r}",
                                        self.path)
                elif tag in (2, 3, 4, 9):
                    said[tag] = words.number()
                elif tag == 5:
                    self._level(words), words.string()
                elif tag == 6:
                    self._level(words)
                    tables.pop(words.number(), None)
                elif tag == 7:
                    self._level(words)
                    number = words.number()
                    tables[number] = words.number()
                    words.string(), words.string()
                else:
                    raise self._fail(f"field {tag}", name)
        if not {2, 3, 4} <= set(said):
            raise self._fail("it does not say which log and records are the newest", name)
        return tables, said[2]

    def _level(self, words: _Words) -> None:
        if words.number() >= MOST_LEVELS:
            raise self._fail("a level that does not exist")

    def _logs(self, oldest: int) -> list[int]:
        """Return the numbers of the logs that count, in order."""
        found = (int(file.stem) for file in self._folder.glob("*.log") if file.stem.isdigit() and file.stem.isascii())
        return sorted(number for number in found if number >= oldest)

    def _log_entries(self, number: int) -> Iterator[tuple[bytes, int, Place | None]]:
        """Yield the records of a log: key, sequence number, value; None for a key that is gone."""
        for batch in self._log(f"{number:06}.log", MOST_LOG, whole=False):
            sequence, count = struct.unpack_from("<QI", batch)
            words = _Words(batch, 12)
            for i in range(count):
                kind = words.number()
                key = words.string()
                if kind not in (DELETION, VALUE):
                    raise self._fail(f"a record of kind {kind}", f"{number:06}.log")
                yield key, sequence + i, Place(None, 0, 0, 0, 0, words.string()) if kind == VALUE else None

    # -- tables ---------------------------------------------------------------------------------

    def _table(self, number: int, size: int) -> Iterator[tuple[bytes, int, Place | None]]:
        """Yield the records of a table."""
        file = next((path for path in (self._folder / f"{number:06}{end}" for end in (".ldb", ".sst"))
                     if path.is_file()), None)
        if file is None:
            raise FileMissingError(f"the database's table {number:06}.ldb is not there; copy it again", self.path)
        try:
            with open(file, "rb") as handle:
                length = os.fstat(handle.fileno()).st_size
                if length != size or size < FOOTER:
                    raise self._fail(f"expected a table of {size} bytes, got {length}", file.name)
                table = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            if isinstance(error, AtrousCaffeError):
                raise
            raise FileAccessError(f"cannot be read: {error.strerror}", str(file)) from None
        self._maps.append(table)
        if struct.unpack_from("<Q", table, size - 8)[0] != TABLE_MAGIC:
            raise self._fail("no table", file.name)
        words = _Words(table, size - FOOTER, size - 8)
        words.number(), words.number()  # the filters' block
        block, extent = words.number(), words.number()
        index = self._block(table, block, extent)
        total = 0
        for _, begin, end in self._entries(index):
            handle_words = _Words(index, begin, end)
            block, extent = handle_words.number(), handle_words.number()
            total += extent + TRAILER
            if total > size:
                raise self._fail("its blocks are larger than the file", file.name)
            for key, begin, end in self._entries(self._block(table, block, extent, check=False)):
                if len(key) < 8:
                    raise self._fail(f"a key of {len(key)} bytes", file.name)
                tag = struct.unpack("<Q", key[-8:])[0]
                if tag & 255 not in (DELETION, VALUE):
                    raise self._fail(f"a record of kind {tag & 255}", file.name)
                yield key[:-8], tag >> 8, Place(table, block, extent, begin, end) if tag & 255 == VALUE else None

    def _block(self, table: mmap.mmap, begin: int, size: int, *, check: bool = True) -> bytes | memoryview:
        """Return the content of a block; without `check` the checksum counts only where there is Snappy to undo."""
        end = begin + size
        if end + TRAILER > len(table):
            raise self._fail(f"a block of {size} bytes at byte {begin} reaches beyond its table")
        kind, masked = struct.unpack_from("<BI", table, end)
        if kind not in (PLAIN, SNAPPY):
            raise DataError(f"a block is compressed in way {kind}; expected none or Snappy", self.path)
        if check or kind == SNAPPY:
            self._check(table[begin:end + 1], masked, f"the block at byte {begin}")
        if kind == PLAIN:
            return memoryview(table)[begin:end]
        data = table[begin:end]
        if _Words(data).number() > SNAPPY_GAIN * size:
            raise self._fail(f"the block at byte {begin} would be too large")
        try:
            return bytes(self._snappy.snappy.decompress_raw(data))
        except self._snappy.DecompressionError as error:
            raise self._fail(f"the block at byte {begin}: {error}") from None

    def _entries(self, block: bytes | memoryview) -> Iterator[tuple[bytes, int, int]]:
        """Yield each key of a block, and where its value begins and ends there."""
        restarts = struct.unpack_from("<I", block, len(block) - 4)[0] if len(block) >= 4 else 0
        end = len(block) - 4 - 4 * restarts
        if end < 0:
            raise self._fail(f"a block of {len(block)} bytes with {restarts} restarts")
        words, key = _Words(block, 0, end), b""
        while words.at < end:
            shared, rest, size = words.number(), words.number(), words.number()
            if shared > len(key):
                raise self._fail("a key that shares more than there is")
            begin = words.skip(rest)
            key = key[:shared] + bytes(block[begin:begin + rest])
            begin = words.skip(size)
            yield key, begin, begin + size
