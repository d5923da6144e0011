"""Rows of HDF5 data sets, for HDF5Data: checked before anything is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from atrouscaffe.errors import BudgetError, DataError, FileMissingError

__all__ = ["Hdf5Rows"]

T = TypeVar("T")
MAX_BYTES = 2**33  # of one file's data sets in memory, as float32
MAX_RATIO = 1100  # deflate compresses to no less than a thousandth


class Hdf5Rows:
    """The data sets of one file, by row.

    Parameters
    ----------
    path : path
    names : sequence of str
        Data sets to read; the first axis counts the rows.

    Raises
    ------
    FileMissingError
        No such file.
    DataError
        Not HDF5, damaged, a data set is missing, linked from elsewhere, not of numbers, or of
        another number of rows.
    BudgetError
        More than 8 GB.
    """

    def __init__(self, path: str | os.PathLike, names: Sequence[str]) -> None:
        self.path, self.names = os.fspath(path), tuple(names)
        self._arrays: list[np.ndarray] | None = None
        self.shapes = self._open(self._shapes)
        rows = {shape[0] for shape in self.shapes}
        if len(rows) != 1 or not min(rows):
            raise DataError(f"data sets {', '.join(names)}: expected as many rows in each and at least one, got "
                            f"{', '.join(str(shape[0]) for shape in self.shapes)}", self.path)
        self.rows = rows.pop()

    def arrays(self) -> list[np.ndarray]:
        """Return the data sets as float32; read once."""
        if self._arrays is None:
            self._arrays = self._open(lambda file: [np.asarray(file[name][()], np.float32) for name in self.names])
        return self._arrays

    def release(self) -> None:
        """Give the arrays back; they are read again when asked for."""
        self._arrays = None

    def _open(self, work: Callable[[Any], T]) -> T:
        import h5py

        if not os.path.isfile(self.path):
            raise FileMissingError("no such file; expected HDF5", self.path)
        try:
            with h5py.File(self.path, "r") as file:
                return work(file)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, (DataError, BudgetError)):
                raise
            raise DataError(f"expected an HDF5 file with data sets {', '.join(self.names)}: {error}",
                            self.path) from None

    def _shapes(self, file: Any) -> list[tuple[int, ...]]:
        import h5py

        shapes, total = [], 0
        for name in self.names:
            if file.get(name, getlink=True) is None:
                raise DataError(f"no data set {name!r} (a top's name); the file has {', '.join(sorted(file)[:20])}",
                                self.path)
            parts = name.strip("/").split("/")
            for end in range(1, len(parts) + 1):  # a folder on the way may be a link, too
                if not isinstance(file.get("/".join(parts[:end]), getlink=True), h5py.HardLink):
                    raise DataError(f"data set {name!r} is a link to another place; expected the data in this file",
                                    self.path)
            item = file[name]
            if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
                raise DataError(f"{name!r}: expected a data set with its data in this file", self.path)
            if item.dtype.kind not in "fiub" or item.ndim < 1:
                raise DataError(f"data set {name!r}: expected numbers with at least one axis, got {item.dtype} of "
                                f"shape {item.shape}", self.path)
            size = item.size * 4
            if size > 2**26 and item.size * item.dtype.itemsize > MAX_RATIO * os.path.getsize(self.path):
                raise DataError(f"data set {name!r} declares {item.size} numbers, more than a file of "
                                f"{os.path.getsize(self.path)} bytes can hold", self.path)
            total += size
            shapes.append(tuple(item.shape))
        if total > MAX_BYTES:
            raise BudgetError(f"its data sets take {total / 1e9:.1f} GB as float32, above {MAX_BYTES / 1e9:.1f} GB; "
                              "split it into several files", self.path)
        return shapes
