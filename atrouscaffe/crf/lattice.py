"""Filter values at points with a Gaussian in feature space, on the permutohedral lattice.

Contract of the compiled half `lattice_cpu` and `filter_cpu`. Points are spread over the vertices of
the simplex they lie in (splat), the vertices are blurred with [1/2 1 1/2] along each of the d + 1
axes, and the points are interpolated back (slice); Adams, Baek, Davis 2010, in the form of
Krähenbühl and Koltun 2011. The cost is linear in the number of points.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atrouscaffe.crf.memory import MAX_NUMBERED, lattice_bytes, refuse_above
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.budget import default_budget
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["Cut", "Lattice", "aligned", "padded_lanes"]

TILE = 4096  # points of a chunk: its copies of vertices stay in the second-level cache
VERTEX_GRAIN = 8192
SLOTS = 8192  # of a chunk's hash table, to begin with
WIDE = 2.0**16  # elevated coordinates beyond this leave float32 too few bits inside a simplex
WIDEST = 2.0**48


@dataclass(frozen=True, eq=False)
class Cut:
    """How points are ordered and cut into chunks; kernels of one CRF share it.

    A chunk is a number of runs: stretches of consecutive points that lie side by side in its order.

    Attributes
    ----------
    points : int
    starts : (chunks + 1,) int64
        Place at which each chunk begins.
    run_starts : (chunks + 1,) int64
        Number of each chunk's first run.
    run_places : (runs + 1,) int64
        Place at which each run begins, and where the last one ends.
    run_points : (runs,) int64
        First point of each run.
    """

    points: int
    starts: np.ndarray
    run_starts: np.ndarray
    run_places: np.ndarray
    run_points: np.ndarray

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self.starts.size - 1

    @functools.cached_property
    def order(self) -> np.ndarray:
        """Number of the point at each place, (N,) int32."""
        lengths = np.diff(self.run_places)
        return (np.arange(self.points) + np.repeat(self.run_points - self.run_places[:-1], lengths)).astype(np.int32)

    @classmethod
    def of_points(cls, points: int) -> Cut:
        """Cut `points` points in their own order."""
        starts = np.append(np.arange(0, points, TILE, dtype=np.int64), points)
        return cls(points, starts, np.arange(starts.size), starts, starts[:-1])

    @classmethod
    def of_grid(cls, shape: Sequence[int]) -> Cut:
        """Cut a grid into tiles: neighbours share vertices, so fewer copies are made."""
        edge = max(1, round(TILE ** (1 / len(shape))))
        cuts = [chunks(n, edge) for n in shape]
        strides = [math.prod(shape[i + 1:]) for i in range(len(shape))]
        counts, lengths, begins = [], [], []
        for tile in itertools.product(*cuts):
            first = np.zeros(1, np.int64)
            for (start, stop), stride in zip(tile[:-1], strides):
                first = (first[:, None] + np.arange(start, stop) * stride).ravel()
            begins.append(first + tile[-1][0])
            counts.append(first.size)
            lengths.append(np.full(first.size, tile[-1][1] - tile[-1][0]))
        run_starts = np.cumsum([0, *counts], dtype=np.int64)
        run_places = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        return cls(math.prod(shape), run_places[run_starts], run_starts, run_places, np.concatenate(begins))


def aligned(size: int, dtype: type = np.float32, *, zero: bool = False) -> np.ndarray:
    """Return a flat array that begins at a cache line, which NumPy's own arrays do not."""
    item = np.dtype(dtype).itemsize
    raw = (np.zeros if zero else np.empty)(size + 64 // item, dtype)
    skip = -raw.ctypes.data % 64 // item
    return raw[skip:skip + size]


def padded_lanes(channels: int) -> tuple[int, int]:
    """Return (lanes, blocks): the vectors that hold one row of `channels` channels."""
    for lanes in (8, 16, 24, 32):
        if channels <= lanes:
            return lanes, 1
    lanes = min((24, 32), key=lambda n: -(-channels // n) * n)
    return lanes, -(-channels // lanes)


def _table(slots: int, words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a hash table, and room for the keys of a chunk's vertices and the sums of the points' weights there."""
    return np.empty(slots, np.int32), np.empty(slots // 2 * words, np.uint64), np.empty(slots // 2, np.float32)


def _key_layout(features: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return (low, factor (d, words), largest): how vertex coordinates are packed.

    Interval arithmetic on the features bounds every elevated coordinate; the margin covers the
    simplex around it and the neighbours of its vertices.
    """
    dims = scale.size
    ends = np.stack([features.min(axis=1), features.max(axis=1)]).astype(np.float64) * scale  # (2, d)
    ahead = np.cumsum(ends[:, ::-1], axis=1)[:, ::-1]  # sum over features j … d-1
    low, high = ahead[0].copy(), ahead[1].copy()
    for j in range(1, dims):  # coordinate j is the sum of the features behind it, less j times its own
        low[j] -= j * ends[1, j - 1]
        high[j] -= j * ends[0, j - 1]
    # coordinate 0 sums all features; coordinate d is not part of a key
    largest = float(max(np.abs(low).max(), np.abs(high).max(), np.abs(ends * dims).max()))
    margin = 4 * (dims + 1)
    if not largest < WIDEST:
        raise ArgumentError(f"features: expected values below about {WIDEST / (dims + 1):.0e} after division by their "
                            f"sigma, got some that reach {largest:.3g} on the lattice; use a larger sigma")
    slack = 1e-5 * largest
    low_digit = np.floor(low - slack).astype(np.int64) - margin
    radix = np.ceil(high + slack).astype(np.int64) + margin - low_digit + 1
    words: list[list[tuple[int, int]]] = [[]]
    product = 1
    for i in range(dims):
        if product * int(radix[i]) >= 2**63:
            words.append([])
            product = 1
        words[-1].append((i, product))
        product *= int(radix[i])
    factor = np.zeros((dims, len(words)), np.uint64)
    for w, digits in enumerate(words):
        for i, value in digits:
            factor[i, w] = value
    return low_digit, factor, largest


class Lattice:
    """The permutohedral lattice of a set of points, built once and used for many filters.

    Parameters
    ----------
    features : (d, N) float32
        Positions in feature space in units of the standard deviation. The order of the d features
        matters: the lattice is not symmetric in them.
    cut : Cut, optional
        How the points are cut into chunks; by default in their own order.
    memory_budget : int, optional
        Bytes that building may take; by default `default_budget`.

    Attributes
    ----------
    dims, points, vertices : int

    Raises
    ------
    ArgumentError
        `features` is not a finite (d, N) array with d, N >= 1, or spans too wide a range.
    BudgetError
        More memory than allowed; the points' part is checked first, the vertices' once they are counted.

    Notes
    -----
    Arithmetic is float32 in the order of the original (``permutohedral.cpp``, SSE build), so the
    vertices are the same; its keys of 16 bits, which wrap silently, and the phantom points of its
    blocks of four are not kept. Coordinates beyond 65536 are worked out in float64.
    """

    def __init__(self, features: np.ndarray, *, cut: Cut | None = None, memory_budget: int | None = None) -> None:
        budget = default_budget() if memory_budget is None else memory_budget
        features = np.asarray(features)
        if features.ndim != 2 or 0 in features.shape:
            raise ArgumentError(f"features: expected shape (d, N) with d and N of at least 1, got {features.shape}")
        if features.dtype.kind not in "fiub":
            raise ArgumentError(f"features: expected real numbers, got dtype {features.dtype}")
        self.dims, self.points = features.shape
        what = f"CRF lattice of {self.points:,} points in {self.dims} dimensions"
        refuse_above(budget, lattice_bytes(self.points, self.dims), what)
        features = np.ascontiguousarray(features, np.float32)
        self.cut = cut or Cut.of_points(self.points)
        if self.cut.points != self.points:
            raise ArgumentError(f"features: expected {self.cut.points} points as the CRF has, got {self.points}")
        ends = np.stack([features.min(axis=1), features.max(axis=1)])
        if not np.isfinite(ends).all():
            raise ArgumentError("features: expected finite numbers, got NaN or infinity")
        # the original's constants: float32 standard deviation, double scale, rounded once more
        spread = np.float32(math.sqrt(2.0 / 3.0) * (self.dims + 1))
        scale = np.array([1.0 / math.sqrt((i + 2) * (i + 1)) * float(spread) for i in range(self.dims)])
        low_digit, factor, largest = _key_layout(ends.T, scale)
        kind = np.dtype(np.float32 if largest < WIDE else np.float64)
        keys = self._embed(features.astype(kind, copy=False), scale.astype(kind), low_digit, factor)
        words = factor.shape[1]
        self.row_starts = np.cumsum([0, *(k.size // words for k in keys)], dtype=np.int64)
        refuse_above(budget if self.row_starts[-1] <= MAX_NUMBERED else 0,
                     lattice_bytes(self.points, self.dims, int(self.row_starts[-1])), what)
        usual = kind == np.float32 and words == 1
        self._link(*self._number(keys, words, usual), factor, usual)

    def _embed(self, features: np.ndarray, scale: np.ndarray, low_digit: np.ndarray,
               factor: np.ndarray) -> list[np.ndarray]:
        """Find the points' simplices; return the keys of each chunk's vertices."""
        from atrouscaffe.crf import lattice_cpu

        dims, words, cut = self.dims, factor.shape[1], self.cut
        inverse = np.float32(1.0 / (dims + 1)) if scale.dtype == np.float32 else 1.0 / (dims + 1)
        steps = np.append(np.arange(dims + 2), inverse).astype(scale.dtype)
        width = max(self.points, lattice_cpu.LANES)  # whole vectors are read
        if width > self.points:
            features = np.pad(features, ((0, 0), (0, width - self.points)))
        most = int(np.diff(cut.starts).max()) * (dims + 1)
        self.ids = np.empty((self.points, dims + 1), np.uint16 if most <= 2**16 else np.int32)
        self.weights = np.empty((self.points, dims), np.float32)
        usual = scale.dtype == np.float32 and words == 1 and dims in (2, 5)
        embed = lattice_cpu.make_embed(*((dims, 1) if usual else (0, 0)))
        flat = (features.ravel(), factor.ravel(), self.ids.ravel(), self.weights.ravel())
        tables: list[tuple[np.ndarray, ...]] = []  # that no thread uses at the moment
        found: list[tuple[np.ndarray, ...]] = [()] * cut.chunks

        def work(c: int) -> None:
            runs = slice(cut.run_starts[c], cut.run_starts[c + 1] + 1)
            try:
                table = tables.pop()
            except IndexError:
                table = _table(SLOTS, words)
            while True:
                count = embed(dims, words, flat[0], width, cut.run_places[runs], cut.run_points[runs], scale, steps,
                              low_digit, flat[1], flat[2], flat[3], *table)
                if count >= 0:
                    break
                table = _table(4 * table[0].size, words)
            found[c] = table[1][:count * words].copy(), table[2][:count].copy()
            tables.append(table)

        parallel(work, cut.chunks)
        self._ones = np.concatenate([ones for _, ones in found])
        return [keys for keys, _ in found]

    def _number(self, keys: list[np.ndarray], words: int, usual: bool) -> tuple[np.ndarray, np.ndarray]:
        """Number the distinct vertices; return their keys and the table in which they are found."""
        from atrouscaffe.crf import lattice_cpu

        self.named = np.empty(self.row_starts[-1], np.int32)  # vertex of each row
        distinct, slots = lattice_cpu.make_merge(1 if usual else 0)(words, np.concatenate(keys), self.named)
        self.vertices = distinct.size // words
        self.first = np.zeros(self.vertices + 1, np.int32)
        self.copies = np.empty(self.named.size, np.int32)
        lattice_cpu.index_copies(self.named, self.first, self.copies)
        return distinct, slots

    def _link(self, keys: np.ndarray, slots: np.ndarray, factor: np.ndarray, usual: bool) -> None:
        """Fill `neighbours` (d + 1, 2, vertices); a missing one is number `vertices`."""
        from atrouscaffe.crf import lattice_cpu

        link = lattice_cpu.make_link(1 if usual else 0)
        taps = self.dims + 1
        self.neighbours = np.full((taps, 2, self.vertices), self.vertices, np.int32)
        ones = factor.sum(axis=0, dtype=np.uint64)
        spans = [np.zeros_like(ones) - ones + np.uint64(taps) * factor[j] for j in range(self.dims)]
        spans.append(np.zeros_like(ones) - ones)
        pieces = [(j, a, b) for j in range(taps) for a, b in chunks(self.vertices, 2 * VERTEX_GRAIN)]

        def work(n: int) -> None:
            j, a, b = pieces[n]
            link(factor.shape[1], keys, slots, spans[j], a, b, self.neighbours[j, 0], self.neighbours[j, 1])

        parallel(work, len(pieces))

    @functools.cached_property
    def inverse(self) -> np.ndarray:
        """1 over the filtered ones at every point in the order of the cut, (N,) float32; worked out once."""
        norm = self._spread(self._ones, 1, False).ravel()
        norm += np.float32(1e-20)
        return np.divide(np.float32(1), norm, out=norm)

    @property
    def norm(self) -> np.ndarray:
        """Filtered ones at every point in the order of the cut, (N,) float32."""
        return 1 / self.inverse

    @property
    def nbytes(self) -> int:
        """Bytes that the lattice holds."""
        parts = (self.ids, self.weights, self.named, self.neighbours, self.first, self.copies, self._ones)
        return sum(part.nbytes for part in parts) + 4 * self.points

    @property
    def alpha(self) -> float:
        """Factor that gives an isolated simplex the weight 1."""
        return 1.0 / (1.0 + 2.0**-self.dims)

    def filter(self, values: np.ndarray, *, transpose: bool = False) -> np.ndarray:
        """Return the filtered values, each point's own contribution included.

        Parameters
        ----------
        values : (C, N) float32 or float64
        transpose : bool
            Apply the transposed operator: the axes are blurred in the opposite order.

        Returns
        -------
        (C, N) array of the dtype of `values`
        """
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != self.points:
            raise ArgumentError(f"values: expected shape (C, {self.points}), got {values.shape}")
        kind = np.float64 if values.dtype == np.float64 else np.float32
        channels = values.shape[0]
        lanes, blocks = padded_lanes(max(1, channels))
        rows = np.zeros((self.points, lanes * blocks), kind)
        rows[:, :channels] = values.T[self.cut.order]
        out = self.filter_rows(rows, lanes, transpose=transpose)
        result = np.empty((channels, self.points), kind)
        result[:, self.cut.order] = out[:, :channels].T
        return result

    def filter_rows(self, rows: np.ndarray, lanes: int, *, transpose: bool = False) -> np.ndarray:
        """Filter rows of channels in the order of the cut, whose width is a multiple of `lanes`."""
        from atrouscaffe.crf import filter_cpu

        blocks = rows.shape[1] // lanes
        splat, starts, row_starts = filter_cpu.make_splat(lanes), self.cut.starts, self.row_starts
        ids, weights, values = self.ids.ravel(), self.weights.ravel(), rows.ravel()
        partial = aligned(self.named.size * rows.shape[1], rows.dtype)
        parallel(lambda c: splat(starts[c], starts[c + 1], row_starts[c], row_starts[c + 1], self.dims, blocks, values,
                                 ids, weights, partial), self.cut.chunks)
        return self._spread(partial, lanes, transpose).reshape(rows.shape)

    def _spread(self, partial: np.ndarray, lanes: int, transpose: bool) -> np.ndarray:
        """Merge and blur the chunks' copies of vertices, and interpolate the points."""
        from atrouscaffe.crf import filter_cpu

        width = partial.size // self.named.size
        merge, blur, blocks = filter_cpu.make_merge_rows(lanes), filter_cpu.make_blur(lanes), width // lanes
        slice_rows, starts = filter_cpu.make_slice(lanes), self.cut.starts
        source, target = (aligned((self.vertices + 1) * width, partial.dtype, zero=True) for _ in range(2))
        pieces = chunks(self.vertices, VERTEX_GRAIN)
        parallel(lambda n: merge(*pieces[n], blocks, self.first, self.copies, partial, source), len(pieces))
        taps = self.dims + 1
        for j in range(taps - 1, -1, -1) if transpose else range(taps):
            ahead, behind = self.neighbours[j]
            parallel(lambda n: blur(*pieces[n], blocks, ahead, behind, source, target), len(pieces))  # noqa: B023
            source, target = target, source
        out = aligned(self.points * width, partial.dtype)
        ids, weights = self.ids.ravel(), self.weights.ravel()
        parallel(lambda c: slice_rows(starts[c], starts[c + 1], self.row_starts[c], self.dims, blocks, self.named,
                                      source, ids, weights, out, self.alpha), self.cut.chunks)
        return out
