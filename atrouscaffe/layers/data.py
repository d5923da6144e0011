"""Data: records of a database, one image and one number each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.header import read_header
from atrouscaffe.data.image import decode_image
from atrouscaffe.data.leveldb_reader import LevelDbReader
from atrouscaffe.data.lmdb_reader import LmdbReader
from atrouscaffe.errors import AtrousCaffeError, DataError, LayerError
from atrouscaffe.formats.datum import Datum, parse_datum
from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.batches import BatchLayer


@register
class Data(BatchLayer):
    """Reads Datum records from LevelDB or LMDB in the order of their keys (``data_layer.cpp``).

    Records are raw bytes, floats, or encoded pictures, which keep their own channels unless
    ``force_color``, ``force_gray`` or ``force_encoded_color`` say otherwise. The database is only
    read, and not locked. LEVELDB is the default, as in Caffe; it needs two packages
    (``pip install 'atrouscaffe[leveldb]'``).
    """

    type = "Data"
    options = "data_param"
    tops = (1, 2)

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        p, t = self.p, self.spec.fields.transform_param
        if not p.source:
            raise LayerError("data_param: expected a source (a database), got none")
        if t.force_color and t.force_gray:
            raise LayerError("transform_param: expected force_color or force_gray, got both")
        self.batch_size = self.want_batch(p.batch_size)
        self.rand_skip = int(p.rand_skip)
        self._transform = self.transform()
        if self._transform.scale_factors:
            raise LayerError("scale_factors: only ImageSegData scales at random")
        self._gray = True if t.force_gray else False if t.force_color or p.force_encoded_color else None
        self._reader: LmdbReader | LevelDbReader | None = None

    def open(self) -> None:
        """Open the database, read the mean picture."""
        self._transform = self.transform(self.mean_image())
        self.reader()

    def reader(self) -> LmdbReader | LevelDbReader:
        """Return the open database."""
        if self._reader is None:
            kind = LmdbReader if self.p.backend == "LMDB" else LevelDbReader
            self._reader = kind(self.env.paths.resolve(self.p.source, "source"))
            if not len(self._reader):
                raise DataError("the database has no records", self._reader.path)
        return self._reader

    def count(self) -> int:
        """Return the number of records."""
        return len(self.reader())

    def sample_shapes(self) -> list[Shape]:
        """Return the shape of the first record, cropped."""
        datum = self._datum(0)
        if datum.encoded and self._gray is not None:
            header = read_header(datum.data)
            shape = (1 if self._gray else 3, header.height, header.width)
        elif datum.encoded:
            image = decode_image(datum.data, gray=None)
            shape = (1 if image.ndim == 2 else image.shape[2], *image.shape[:2])
        else:
            shape = (datum.channels, datum.height, datum.width)
        return [self._transform.out_shape(*shape), ()][:len(self.spec.tops)]

    def load(self, row: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Read and transform one record."""
        datum = self._datum(row)
        try:
            image = decode_image(datum.data, gray=self._gray) if datum.encoded else raw_pixels(datum)
            data = self._transform.image(image, rng)
        except AtrousCaffeError as error:
            raise type(error)(error.message, self._place(row)) from None
        return (data, np.float32(datum.label))[:len(self.spec.tops)]

    def parse(self, value: bytes) -> Datum:
        """Return the image and number of a record."""
        return parse_datum(value)

    def _place(self, row: int) -> str:
        return f"{self.p.source}: record {row}: layer '{self.name}' ({self.type})"

    def _datum(self, row: int) -> Datum:
        value = self.reader().record(row)[1]
        try:
            return self.parse(value)
        except AtrousCaffeError as error:
            raise DataError(f"expected a Datum: {error.message}", self._place(row)) from None


def raw_pixels(datum: Datum) -> np.ndarray:
    """Return the numbers of a raw record as (H, W, C)."""
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1:
        raise DataError(f"expected a Datum of at least 1x1 pixels, got shape {shape}")
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.asarray(datum.float_data, np.float32)
    if values.size != shape[0] * shape[1] * shape[2]:
        raise DataError(f"expected {shape[0] * shape[1] * shape[2]} numbers for shape {shape}, got {values.size}")
    return values.reshape(shape).transpose(1, 2, 0)
