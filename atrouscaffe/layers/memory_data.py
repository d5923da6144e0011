"""MemoryData: rows of arrays that the caller hands over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError, LayerError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.batches import BatchLayer


@register
class MemoryData(BatchLayer):
    """Hands out rows of two arrays, batch after batch (``memory_data_layer.cpp``).

    The caller gives them with `set_arrays` (pycaffe's ``net.set_input_arrays``). A third top, of a patched DeepLab
    fork (``DeepLab-V2-Read-Memory-Data``), is (N, 1, 1, 2): height and width of each picture, as DenseCRF reads them.
    """

    type = "MemoryData"
    options = "memory_data_param"
    tops = (2, 3)
    ahead = 0

    def setup(self) -> None:
        """Check the sizes."""
        super().setup()
        p = self.p
        self._shape = (int(p.channels), int(p.height), int(p.width))
        if min(self._shape) < 1:
            raise LayerError(f"memory_data_param: expected channels, height and width of at least 1, got {self._shape}")
        self.batch_size = self.want_batch(p.batch_size)
        self._transform = self.transform()
        self._data = self._labels = self._sizes = np.zeros(0)
        self._fresh = False

    def set_arrays(self, data: Any, labels: Any, sizes: Any = None) -> None:
        """Give the rows; the next pass begins at the first.

        Parameters
        ----------
        data : (N, channels, height, width) array
        labels : array of N numbers
        sizes : (N, 2) array, optional
            Height and width of what is picture in each row, for the third top; by default those of the top.
        """
        data, labels = np.asarray(data, np.float32), np.asarray(labels, np.float32).reshape(-1)
        if data.ndim != 4 or data.shape[1:] != self._shape or not len(data):
            raise ArgumentError(f"data: expected shape (N, {', '.join(map(str, self._shape))}), got {data.shape}")
        if len(labels) != len(data) or len(data) % self.batch_size:
            raise ArgumentError(f"expected as many labels as rows, a multiple of batch_size {self.batch_size}; "
                                f"got {len(data)} rows and {len(labels)} labels")
        own = self._transform.out_shape(*self._shape)[1:]
        sizes = np.broadcast_to(own, (len(data), 2)) if sizes is None else np.asarray(sizes)
        if sizes.shape != (len(data), 2):
            raise ArgumentError(f"sizes: expected height and width of each row, shape ({len(data)}, 2), got "
                                f"{sizes.shape}")
        self._data, self._labels, self._fresh = data, labels, True
        self._sizes = sizes.astype(np.float32).reshape(-1, 1, 1, 2)

    def start(self, ctx: Context) -> None:
        """Begin at the first row where new rows were given."""
        super().start(ctx)
        if self._fresh:
            ctx.state["position"] = 0
        self._fresh = False

    def open(self) -> None:
        """Read the mean picture where there is one."""
        self._transform = self.transform(self.mean_image())

    def count(self) -> int:
        """Return the number of rows."""
        if not len(self._data):
            raise LayerError("MemoryData has no rows yet; give them with set_arrays(data, labels)")
        return len(self._data)

    def sample_shapes(self) -> list[Shape]:
        """Return the shape of a row, cropped, of a label, and of a size."""
        return [self._transform.out_shape(*self._shape), (), (1, 1, 2)][:len(self.spec.tops)]

    def load(self, row: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Return one row, transformed, its label and its size."""
        image = self._transform.image(self._data[row].transpose(1, 2, 0), rng)
        return (image, self._labels[row], self._sizes[row])[:len(self.spec.tops)]
