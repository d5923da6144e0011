"""LMDB databases, read without the LMDB library: no lock file, no writing, no crash on damage.

The library maps the file and follows page numbers without looking; a truncated database then ends
the process with a bus error. This reader checks every offset. The format (LMDB 0.9, 64-bit little
endian; ``mdb.c``): pages of one size; pages 0 and 1 are meta pages, of which the one with the higher
transaction number holds; the main tree's branch pages lead to leaf pages, whose nodes hold key and
value, or key and the number of an overflow page with the value.
"""

from __future__ import annotations

import bisect
import mmap
import os
import struct
from pathlib import Path

from atrouscaffe.errors import DataError, FileAccessError, FileMissingError

__all__ = ["LmdbReader"]

MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE_HEADER = 16
BRANCH, LEAF, META = 0x01, 0x02, 0x08
BIG, SUB, DUP = 0x01, 0x02, 0x04  # node flags: value on overflow pages; a sub-database; several values
NONE = 0xFFFFFFFFFFFFFFFF
MAX_DEPTH = 32


class LmdbReader:
    """The records of an LMDB database in the order of their keys.

    Parameters
    ----------
    path : path
        The folder with ``data.mdb``, or that file.

    Raises
    ------
    FileMissingError, FileAccessError
        No such folder or file.
    DataError
        Not LMDB, truncated, or damaged.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        file = Path(path)
        if file.is_dir():
            file = file / "data.mdb"
            if not file.exists():
                kind = "a LevelDB" if any(file.parent.glob("*.ldb")) or (file.parent / "CURRENT").exists() else "no"
                hint = "; say backend: LEVELDB, or nothing" if kind == "a LevelDB" else ""
                raise FileMissingError(f"expected a folder with data.mdb, got {kind} database{hint}", str(path))
        self.path = str(file)
        try:
            if not file.is_file():
                raise FileMissingError("no such database; expected a folder with data.mdb", str(path))
            with open(file, "rb") as handle:
                size = os.fstat(handle.fileno()).st_size
                if size < 2 * PAGE_HEADER + 272:
                    raise DataError(f"expected an LMDB database, got a file of {size} bytes", self.path)
                self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            if isinstance(error, FileMissingError):
                raise
            raise FileAccessError(f"cannot be read: {error.strerror}", self.path) from None
        self._read_meta()
        self._leaves = self._find_leaves()

    def __len__(self) -> int:
        """Number of records."""
        return self._entries

    def _fail(self, what: str) -> DataError:
        return DataError(f"damaged LMDB database: {what}; copy or make it again", self.path)

    def _unpack(self, form: str, at: int) -> tuple:
        if at < 0 or at + struct.calcsize(form) > len(self._map):
            raise self._fail(f"offset {at} lies behind its {len(self._map)} bytes")
        return struct.unpack_from(form, self._map, at)

    def _read_meta(self) -> None:
        """Find page size and root in the newer meta page."""
        if self._unpack("<I", PAGE_HEADER)[0] != MAGIC:
            raise DataError("expected an LMDB database, got another kind of file", self.path)
        page = self._unpack("<I", PAGE_HEADER + 24)[0]
        if page < 512 or page > 65536 or page & (page - 1):
            raise self._fail(f"page size {page}")
        self._page = page
        metas = []
        for start in (0, page):
            at = start + PAGE_HEADER
            magic, version = self._unpack("<II", at)
            flags = self._unpack("<H", start + 10)[0]
            if magic != MAGIC or version != VERSION or not flags & META:
                raise self._fail(f"meta page {start // page} has version {version} (this reader knows {VERSION})")
            depth = self._unpack("<H", at + 24 + 48 + 6)[0]
            entries, root = self._unpack("<QQ", at + 24 + 48 + 32)
            last, transaction = self._unpack("<QQ", at + 24 + 96)
            metas.append((transaction, entries, root, last, depth))
        _, self._entries, self._root, last, depth = max(metas)
        if self._root != NONE and (last + 1) * page > len(self._map):
            raise DataError(f"truncated LMDB database: expected {(last + 1) * page} bytes, got {len(self._map)}; "
                            "copy it again", self.path)
        if depth > MAX_DEPTH:
            raise self._fail(f"a tree of depth {depth}")

    def _nodes(self, number: int) -> tuple[int, list[int]]:
        """Return the flags of a page and the offsets of its nodes in the file."""
        start = number * self._page
        flags, lower = self._unpack("<HH", start + 10)
        if start + self._page > len(self._map) or not PAGE_HEADER <= lower <= self._page or lower % 2:
            raise self._fail(f"page {number}")
        count = (lower - PAGE_HEADER) // 2
        offsets = self._unpack(f"<{count}H", start + PAGE_HEADER)
        if any(offset < lower or offset + 8 > self._page for offset in offsets):
            raise self._fail(f"a node outside page {number}")
        return flags, [start + offset for offset in offsets]

    def _find_leaves(self) -> list[tuple[int, int]]:
        """Return (index of its first record, page number) for each leaf page, in key order."""
        if self._root == NONE:
            return []
        leaves, first, visited = [], 0, 0
        stack = [(self._root, 0)]
        while stack:
            number, depth = stack.pop()
            visited += 1
            if visited * self._page > len(self._map) or depth > MAX_DEPTH:
                raise self._fail("its tree has a cycle")
            flags, nodes = self._nodes(number)
            if flags & LEAF:
                leaves.append((first, number))
                first += len(nodes)
            elif flags & BRANCH:
                for at in reversed(nodes):
                    low, high, top = self._unpack("<HHH", at)
                    stack.append((low | high << 16 | top << 32, depth + 1))
            else:
                raise self._fail(f"page {number} is neither branch nor leaf")
        if first != self._entries:
            raise self._fail(f"it says {self._entries} records and has {first}")
        return leaves

    def record(self, index: int) -> tuple[bytes, bytes]:
        """Return key and value of record `index`, counted in key order.

        Raises
        ------
        DataError
            The record lies outside the file.
        """
        if not 0 <= index < self._entries:
            raise IndexError(index)
        first, number = self._leaves[bisect.bisect_right(self._leaves, (index, NONE)) - 1]
        at = self._nodes(number)[1][index - first]
        low, high, flags, key_size = self._unpack("<HHHH", at)
        size, begin = low | high << 16, at + 8 + key_size
        if flags & (SUB | DUP):
            raise DataError(f"record {index} is a sub-database or has several values; expected one value a key",
                            self.path)
        if flags & BIG:
            page = self._unpack("<Q", begin)[0]
            begin = page * self._page + PAGE_HEADER
        elif begin + size > (number + 1) * self._page:
            raise self._fail(f"record {index} reaches beyond its page")
        if begin + size > len(self._map):
            raise self._fail(f"record {index} of {size} bytes reaches beyond the file")
        return self._map[at + 8 : at + 8 + key_size], self._map[begin : begin + size]

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()
