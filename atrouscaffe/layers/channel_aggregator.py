"""ChannelAggregator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atrouscaffe.errors import DataError, FileAccessError, FileMissingError, LayerError
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.ops.elementwise import over_tiles
from atrouscaffe.runtime.blob import Blob

__all__ = ["ChannelAggregator", "read_label_map"]

MAX_MAP_FILE = 1 << 22  # bytes


def read_label_map(path: str) -> list[list[int]]:
    """Read a ``label_map_file``: a line for each output channel, with the input channels it joins.

    Raises
    ------
    FileMissingError, FileAccessError, DataError
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_MAP_FILE + 1)
    except FileNotFoundError:
        raise FileMissingError(f"label_map_file: there is no file {path}") from None
    except OSError as error:
        raise FileAccessError(f"label_map_file: {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_MAP_FILE:
        raise DataError(f"label_map_file: expected a short text, {path} has more than {MAX_MAP_FILE} bytes")
    joined = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        try:
            channels = [int(word) for word in line.split()]
        except ValueError:
            channels = []
        if not channels or min(channels) < 0:
            raise DataError(f"{Path(path).name}:{number}: expected channel numbers of at least 0, got {line[:80]!r}")
        joined.append(channels)
    if not joined:
        raise DataError(f"label_map_file: {path} is empty; expected a line for each output channel")
    return joined


@register
class ChannelAggregator(Layer):
    """Joins channels by log-sum-exp, as scores of classes into scores of groups.

    v1's ``channel_aggregator_layer.cpp``. A channel may stand on several lines, and several times.
    """

    type = "ChannelAggregator"
    options = "channel_aggregator_param"
    backward_reads = ("bottom", "top")

    def setup(self) -> None:
        """Read the map."""
        if not self.p.label_map_file:
            raise LayerError("channel_aggregator_param: expected a label_map_file")
        self.joined = read_label_map(self.env.paths.resolve(self.p.label_map_file, "label_map_file"))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape with a channel a line."""
        self.want_rank(bottoms[0], 4)
        n, channels, h, w = bottoms[0]
        largest = max(max(line) for line in self.joined)
        if largest >= channels:
            raise DataError(f"label_map_file: expected channels 0 to {channels - 1} of bottom[0], got {largest}")
        return [(n, len(self.joined), h, w)]

    @staticmethod
    def _flat(array: np.ndarray) -> np.ndarray:
        return array.reshape(*array.shape[:2], -1)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """y = log of the sum of exp(x) over the line's channels."""
        xp, x, y = ctx.xp, self._flat(bottom[0].array), self._flat(top[0].array)

        def work(rows: slice, columns: slice) -> None:
            for i, channels in enumerate(self.joined):
                part = x[rows, :, columns][:, channels]
                largest = part.max(axis=1)
                y[rows, i, columns] = largest + xp.log(xp.exp(part - largest[:, None]).sum(axis=1))

        over_tiles(x.shape, work, xp)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = sum over the lines that have the channel of dy exp(x - y)."""
        if not ctx.propagate[0]:
            return
        xp, x, y = ctx.xp, self._flat(bottom[0].array), self._flat(top[0].array)
        dx, dy = self._flat(bottom[0].grad), self._flat(top[0].grad)

        def work(rows: slice, columns: slice) -> None:
            part, grad = x[rows, :, columns], dx[rows, :, columns]
            grad[...] = 0
            for i, channels in enumerate(self.joined):
                for channel in channels:
                    grad[:, channel] += dy[rows, i, columns] * xp.exp(part[:, channel] - y[rows, i, columns])

        over_tiles(x.shape, work, xp)
