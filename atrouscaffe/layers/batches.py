"""What data layers have in common: rows read ahead in order, batch after batch, round after round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.prefetch import Prefetch
from atrouscaffe.data.transform import Transform
from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.formats.mean import read_mean
from atrouscaffe.layers.base import Context, Layer, Shape
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.runtime.threads import num_threads
from atrouscaffe.spec import Phase

__all__ = ["BatchLayer"]

SHUFFLE, SAMPLE, SKIP = 1, 2, 3  # which stream of random numbers a seed is used for


class BatchLayer(Layer):
    """A layer without bottoms that reads one batch of rows a forward pass, wrapping round at the end.

    ``ctx.state`` holds ``seed`` (drawn from ``ctx.rng`` once) and ``position`` (rows read so far).
    The random numbers of row number ``position`` come from a generator seeded by both, and so does
    the order of each round: a run that takes this state back goes on with the same rows and the same
    crops, and the number of threads that decode ahead changes nothing.

    A subclass defines `open`, `count`, `sample_shapes` and `load`.
    """

    bottoms = (0, 0)
    has_backward = False
    shuffle = False
    rand_skip = 0
    batch_size = 1
    ahead: int | None = None  # rows that may wait decoded; None is one batch

    def setup(self) -> None:
        """Forget what was read ahead."""
        self._prefetch: Prefetch | None = None
        self._prefetch_seed = -1
        self._sample_shapes: list[Shape] | None = None
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self._opened = False

    def open(self) -> None:
        """Open what rows are read from; called once, before the first `count` or `load`."""

    def count(self) -> int:
        """Return the number of rows in one round."""
        raise LayerError(f"type {self.type}: no rows are defined")

    def sample_shapes(self) -> list[Shape]:
        """Return the shape of one row for each top, without the batch axis."""
        raise LayerError(f"type {self.type}: no shapes are defined")

    def load(self, row: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Return one array for each top, without the batch axis. Runs in a worker thread."""
        raise LayerError(f"type {self.type}: no rows are defined")

    def want_batch(self, size: int) -> int:
        """Return a batch size, or raise where it is 0."""
        if size < 1:
            raise LayerError(f"batch_size: expected at least 1, got {size}")
        return int(size)

    def transform(self, mean_image: np.ndarray | None = None) -> Transform:
        """Return the layer's ``transform_param``."""
        return Transform.from_fields(self.spec.fields.transform_param, train=self.env.phase == Phase.TRAIN,
                                     mean_image=mean_image)

    def mean_image(self) -> np.ndarray | None:
        """Read ``mean_file``; (C, H, W) float32, None where there is none."""
        name = self.spec.fields.transform_param.mean_file
        if not name:
            return None
        return np.asarray(read_mean(self.env.paths.resolve(name, "mean_file")), np.float32)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (batch_size, row's shape) for each top; of the rows last read where they differ."""
        if self._sample_shapes is None:
            self._sample_shapes = [tuple(shape) for shape in self.sample_shapes()]
        return [(self.batch_size, *shape) for shape in self._sample_shapes]

    def _row(self, seed: int, position: int) -> int:
        """Return which row stands at `position`."""
        round_, row = divmod(position, self.count())
        if not self.shuffle:
            return row
        if (seed, round_) not in self._orders:
            if len(self._orders) > 3:
                self._orders.clear()
            self._orders[seed, round_] = np.random.default_rng([seed, SHUFFLE, round_]).permutation(self.count())
        return int(self._orders[seed, round_][row])

    def _take(self, ctx: Context) -> Sequence[np.ndarray]:
        """Return the next row and move on."""
        seed, position = ctx.state["seed"], ctx.state["position"]
        if self._prefetch is None or self._prefetch.position != position or self._prefetch_seed != seed:
            if self._prefetch is not None:
                self._prefetch.close()
            self._prefetch_seed = seed
            self._prefetch = Prefetch(
                lambda at, row: self.load(row, np.random.default_rng([seed, SAMPLE, at])),
                lambda at: self._row(seed, at), position,
                ahead=self.batch_size if self.ahead is None else self.ahead, workers=min(8, num_threads()))
        row = self._prefetch.take()
        ctx.state["position"] = position + 1
        return row

    def start(self, ctx: Context) -> None:
        """Open the rows; draw the seed and the first row, once in a run."""
        if not self._opened:
            self.open()
            self._opened = True
        if "seed" not in ctx.state:
            seed = int(ctx.rng.integers(2**62))
            skip = int(np.random.default_rng([seed, SKIP]).integers(self.rand_skip)) if self.rand_skip else 0
            if skip >= self.count():
                raise DataError(f"rand_skip: expected fewer than the {self.count()} rows, got {self.rand_skip}")
            ctx.state.update(seed=seed, position=skip)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Read the next `batch_size` rows into the tops; a row of another shape reshapes them."""
        self.start(ctx)
        rows = [self._take(ctx) for _ in range(self.batch_size)]
        for i, blob in enumerate(top):
            shapes = {row[i].shape for row in rows}
            if len(shapes) > 1:
                sizes = ", ".join(str(shape) for shape in sorted(shapes))
                raise DataError(f"the rows of one batch differ in shape: {sizes}; set crop_size (or new_height and "
                                "new_width), or batch_size 1")
            blob.reshape(self.batch_size, *shapes.pop())
            blob.array[...] = ctx.backend.asarray(np.stack([row[i] for row in rows]), blob.dtype)
        self._sample_shapes = [row.shape for row in rows[0]]
