"""HDF5Data and HDF5Output: rows from and to HDF5 files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.hdf5_rows import Hdf5Rows
from atrouscaffe.data.lists import read_lines
from atrouscaffe.errors import AtrousCaffeError, DataError, LayerError
from atrouscaffe.formats.atomic import atomic_path
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.layers.batches import SHUFFLE, BatchLayer
from atrouscaffe.runtime.blob import Blob


@register
class HDF5Data(BatchLayer):
    """Reads rows of data sets named like the tops (``hdf5_data_layer.cpp``).

    ``source`` lists files, one a line. A file's data sets are in memory while its rows are read.
    With ``shuffle`` the files of each round and the rows of each file come in a random order.
    """

    type = "HDF5Data"
    options = "hdf5_data_param"
    tops = (1, None)
    ahead = 0

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        if not self.p.source:
            raise LayerError("hdf5_data_param: expected a source (a list of HDF5 files), got none")
        if self.spec.fields.has("transform_param"):
            raise LayerError("HDF5Data takes no transform_param: transform the data when the file is made")
        self.batch_size = self.want_batch(self.p.batch_size)
        self.shuffle = bool(self.p.shuffle)
        self._files: list[Hdf5Rows] = []
        self._starts = np.zeros(1, np.int64)
        self._current: Hdf5Rows | None = None

    def open(self) -> None:
        """Read the list and the sizes of all files in it."""
        self.files()

    def files(self) -> list[Hdf5Rows]:
        """Return the files of the list."""
        if not self._files:
            source = self.env.paths.resolve(self.p.source, "source")
            files = []
            for text, line in read_lines(source):
                try:
                    files.append(Hdf5Rows(self.env.paths.resolve(text, "source"), self.spec.tops))
                    self._check(files[0], files[-1])
                except AtrousCaffeError as error:
                    place = f"{self.p.source}:{line}: layer '{self.name}' ({self.type})"
                    raise type(error)(f"{error.where}: {error.message}" if error.where else error.message,
                                      place) from None
            self._files = files
            self._starts = np.cumsum([0, *(file.rows for file in files)])
        return self._files

    @staticmethod
    def _check(first: Hdf5Rows, file: Hdf5Rows) -> None:
        for name, a, b in zip(first.names, first.shapes, file.shapes):
            if a[1:] != b[1:]:
                raise DataError(f"data set {name!r}: expected rows of shape {a[1:]} as in {first.path}, got {b[1:]}",
                                file.path)

    def count(self) -> int:
        """Return the rows of all files."""
        self.files()
        return int(self._starts[-1])

    def sample_shapes(self) -> list[Shape]:
        """Return the shapes of one row."""
        return [shape[1:] for shape in self.files()[0].shapes]

    def _row(self, seed: int, position: int) -> int:
        """Return which row stands at `position`: files in random order, then rows within a file."""
        if not self.shuffle:
            return position % self.count()
        round_, at = divmod(position, self.count())
        if (seed, round_) not in self._orders:
            self._orders = {(seed, round_): self._round(seed, round_)}
        return int(self._orders[seed, round_][at])

    def _round(self, seed: int, round_: int) -> np.ndarray:
        """Return the order of all rows in one round."""
        rng = np.random.default_rng([seed, SHUFFLE, round_])
        files = rng.permutation(len(self.files()))
        return np.concatenate([self._starts[i] + rng.permutation(self._files[i].rows) for i in files])

    def load(self, row: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Return one row of each data set."""
        index = int(np.searchsorted(self._starts, row, "right")) - 1
        file = self._files[index]
        if self._current is not None and self._current is not file:
            self._current.release()
        self._current = file
        return [array[row - self._starts[index]] for array in file.arrays()]


@register
class HDF5Output(Layer):
    """Writes its bottoms as data sets ``data`` and ``label`` (``hdf5_output_layer.cpp``).

    The first pass of a net replaces the file; later ones add their rows, where the original fails.
    The file is whole at every moment: each pass writes a new one beside it and renames it.
    """

    type = "HDF5Output"
    options = "hdf5_output_param"
    bottoms = (2, 2)
    tops = (0, 0)
    has_backward = False

    def setup(self) -> None:
        """Check the options."""
        if not self.p.file_name:
            raise LayerError("hdf5_output_param: expected a file_name, got none")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Check that both bottoms have as many rows; there are no tops."""
        if not bottoms[0] or not bottoms[1] or bottoms[0][0] != bottoms[1][0]:
            raise LayerError(f"expected as many rows in data and label, got shapes {bottoms[0]} and {bottoms[1]}")
        return []

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the rows."""
        import h5py

        path = self.env.paths.resolve(self.p.file_name, "file_name")
        passes = ctx.state.get("passes", 0)
        with atomic_path(path) as temporary:
            if passes:
                shutil.copyfile(path, temporary)
            with h5py.File(temporary, "a" if passes else "w") as file:
                for name, blob in zip(("data", "label"), bottom):
                    rows = np.asarray(blob.host(), np.float32)
                    if not passes:
                        file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=True)
                    else:
                        file[name].resize(file[name].shape[0] + len(rows), axis=0)
                        file[name][-len(rows):] = rows
        ctx.state["passes"] = passes + 1
