"""The permutohedral lattice on a CUDA device: see `atrouscaffe.crf.lattice`.

The vertices are those of the CPU's lattice. One stable sort of their names finds the distinct ones,
numbers them, and lists for each the points it gathers from in rising order, so that splatting needs
no atomics and every run gives the same bits. The host reads the number of vertices while a lattice
is built, and before it the range of the features, unless positions and bytes bound it.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from atrouscaffe.crf.lattice import WIDE, _key_layout
from atrouscaffe.errors import ArgumentError, BudgetError
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch, prepare

__all__ = ["DeviceLattice", "Joined", "image_lattice", "padded_width", "position_lattice", "to_planes", "to_rows"]

MOST_DIMS = 32  # as in kernels/lattice.cu
MOST_ITEMS = 2**31 - 1  # what a kernel counts to
PIECE = 128  # points that one thread gathers from; longer lists are cut
KEPT_LATTICES = 4  # position lattices kept for the next image of the same size


def padded_width(labels: int) -> int:
    """Return the length of a row of `labels` numbers: threads move four at a time."""
    return -(-labels // 4) * 4


class DeviceLattice:
    """The lattice of a set of points on the current device, built once and used for many filters.

    Parameters
    ----------
    features : (d, N) float32 array on the device
        As in `atrouscaffe.crf.lattice.Lattice`; at most 32 dimensions.
    bounds : (d, 2) array, optional
        Below and above which no feature lies, where that is known.

    Attributes
    ----------
    dims, points, vertices : int
    ids, weights : (N, d + 1) int32, float32
        Vertices of each point's simplex, and barycentric weights.
    first : (vertices + 1,) int32
        Where each vertex' list begins in
    sources, shares : (N (d + 1),) int32, float32
        points and their weights.
    neighbours : (d + 1, 2, vertices) int32
        Next vertex along each axis, ahead and behind; -1 for none.

    Raises
    ------
    ArgumentError
        Features that are not finite, have too many dimensions, or span too wide a range.
    BudgetError
        More points than kernels count.
    """

    def __init__(self, features: Any, bounds: np.ndarray | None = None) -> None:
        self.dims, self.points = features.shape
        dims, taps, points = self.dims, self.dims + 1, self.points
        if dims > MOST_DIMS:
            raise ArgumentError(f"features: expected at most {MOST_DIMS} dimensions on a CUDA device, got {dims}")
        rows = points * taps
        if rows > MOST_ITEMS:
            raise BudgetError(f"CRF lattice of {points:,} points in {dims} dimensions: a CUDA device takes at most "
                              f"{MOST_ITEMS // taps:,} points; use a smaller image, or device 'cpu'")
        xp = module_of(features)
        spread = np.float32(math.sqrt(2.0 / 3.0) * taps)
        exact = np.array([1.0 / math.sqrt((i + 2) * (i + 1)) * float(spread) for i in range(dims)])
        layout = None if bounds is None or bounds.max() >= WIDE else _key_layout(bounds, exact)
        if layout is None or layout[2] >= WIDE:  # the features themselves decide whether float32 is enough
            ends = xp.stack([features.min(axis=1), features.max(axis=1)], axis=1).get()
            if not np.isfinite(ends).all():
                raise ArgumentError("features: expected finite numbers, got NaN or infinity")
            layout = _key_layout(ends, exact)
        low, factor, largest = layout
        kind = np.dtype(np.float32 if largest < WIDE else np.float64)
        words = factor.shape[1]
        keys, self.weights = xp.empty((words, rows), np.uint64), xp.empty((points, taps), np.float32)
        launch("lattice", f"embed_{dims}" if dims in (2, 5) else "embed_any", points,
               (features.astype(kind, copy=False), xp.asarray(exact.astype(kind)),
                float(np.float32(1.0 / taps)) if kind == np.float32 else 1.0 / taps, xp.asarray(low),
                xp.asarray(factor), keys, self.weights, points, dims, words), real=kind)
        order = _sorted(xp, keys)
        fresh = xp.empty(rows, np.int32)
        launch("lattice", "mark", rows, (keys, order, fresh, rows, words))
        numbers = xp.cumsum(fresh, dtype=np.int32)
        self.vertices = int(numbers[-1])
        self._index(xp, keys, order, numbers)
        self.neighbours = xp.empty((taps, 2, self.vertices), np.int32)
        if self.neighbours.size > MOST_ITEMS:
            raise BudgetError(f"CRF lattice of {self.vertices:,} vertices: a CUDA device takes at most "
                              f"{MOST_ITEMS // taps // 2:,}; use larger sigmas, or device 'cpu'")
        ones = factor.sum(axis=0, dtype=np.uint64)
        steps = np.zeros((taps, words), np.uint64) - ones
        steps[:dims] += np.uint64(taps) * factor
        launch("lattice", "find_neighbours", self.neighbours.size,
               (self._names, xp.asarray(steps), self.neighbours, self.neighbours.size, self.vertices, words))
        del self._names

    def _index(self, xp: Any, keys: Any, order: Any, numbers: Any) -> None:
        """Fill `ids` and the vertices' lists."""
        words, rows = keys.shape
        taps = self.dims + 1
        self.ids = xp.empty((self.points, taps), np.int32)
        self.first = xp.empty(self.vertices + 1, np.int32)
        self.sources, self.shares = xp.empty(rows, np.int32), xp.empty(rows, np.float32)
        self._names = xp.empty((words, self.vertices), np.uint64)
        launch("lattice", "index_vertices", rows, (keys, order, numbers, self.weights, self.ids, self.first,
                                                   self.sources, self.shares, self._names, rows, taps, words,
                                                   self.vertices))

    @property
    def alpha(self) -> float:
        """Factor that gives an isolated simplex the weight 1."""
        return 1.0 / (1.0 + 2.0**-self.dims)

    @functools.cached_property
    def joined(self) -> Joined:
        """This lattice ready to be filtered with."""
        return Joined([self])

    @functools.cached_property
    def norm(self) -> Any:
        """Filtered ones at every point, (N,) float32 on the device."""
        xp = module_of(self.ids)
        rows = self.filter_rows(xp.ones((self.points, 4), np.float32))
        return xp.ascontiguousarray(rows[:, 0])

    def filter(self, values: Any, *, transpose: bool = False) -> Any:
        """Return the filtered values, (C, N) of the dtype of `values`, each point's own contribution included.

        Parameters
        ----------
        values : (C, N) float32 or float64 array on the device
        transpose : bool
            Apply the transposed operator.
        """
        xp = module_of(values)
        channels = values.shape[0]
        rows = self.filter_rows(to_rows(xp.ascontiguousarray(values)), transpose=transpose)
        return to_planes(rows, channels)

    def filter_rows(self, rows: Any, *, transpose: bool = False) -> Any:
        """Filter rows of channels, (N, multiple of 4)."""
        steps, buffers = self.joined.plan(rows, transpose=transpose)
        for step in steps:
            step()
        values = buffers[self.joined.axes % 2]
        out = module_of(rows).empty_like(rows)
        quads, count = rows.shape[1] // 4, rows.size // 4
        launch("lattice", "slice", count, (values, self.ids, self.weights, out, count, quads, self.dims + 1,
                                           self.alpha), real=rows.dtype)
        return out


def _sorted(xp: Any, keys: Any) -> Any:
    """Return the order, (rows,) int64, that puts equal names side by side; equals stay in their order."""
    order = xp.argsort(keys[0], kind="stable")
    for word in keys[1:]:
        order = order[xp.argsort(word[order], kind="stable")]
    return order


class Joined:
    """The vertices of several lattices in one numbering, and the way from points' values to blurred vertices.

    The lattices with most axes come first; those with fewer join in at later passes, so that a pass blurs the
    first so many vertices, and all lattices end in the same of two buffers.

    Parameters
    ----------
    lattices : sequence of DeviceLattice
        Of the same points.
    before : sequence of ((N,) float32 array or None), optional
        What multiplies points' values on their way onto each lattice.

    Attributes
    ----------
    vertices, axes : int
    bases : list of int
        Number of each lattice's first vertex, in the order in which they were given.
    """

    def __init__(self, lattices: Sequence[DeviceLattice], before: Sequence[Any] | None = None) -> None:
        factors = before or [None] * len(lattices)
        xp = module_of(lattices[0].ids)
        self.vertices = sum(lattice.vertices for lattice in lattices)
        self.axes = max(lattice.dims + 1 for lattice in lattices)
        self.bases = [0] * len(lattices)
        firsts, homes, sources, shares = [], [], [], []
        alone = len(lattices) == 1
        self.neighbours = lattices[0].neighbours if alone else xp.full((self.axes, 2, self.vertices), -1, np.int32)
        self._ends = [0] * self.axes  # how many vertices each pass blurs
        base = entries = 0
        for k in sorted(range(len(lattices)), key=lambda k: -lattices[k].dims):
            lattice, late = lattices[k], self.axes - lattices[k].dims - 1
            self.bases[k], end = base, base + lattice.vertices
            firsts.append(lattice.first[:-1] + np.int32(entries))
            homes.append(xp.arange(base, end, dtype=np.int32) + np.int32(late % 2 * self.vertices))
            sources.append(lattice.sources)
            factor = factors[k]
            shares.append(lattice.shares if factor is None else lattice.shares * factor[lattice.sources])
            if not alone:
                own = lattice.neighbours
                self.neighbours[late:, :, base:end] = xp.where(own < 0, own, own + np.int32(base)) if base else own
            self._ends[late:] = [end] * (self.axes - late)
            base, entries = end, entries + lattice.sources.size
        if max(entries, 2 * self.vertices) > MOST_ITEMS:
            raise BudgetError(f"CRF kernels with {entries:,} taps and {self.vertices:,} vertices: a CUDA device takes "
                              f"at most {MOST_ITEMS:,}; use a smaller image, or device 'cpu'")
        self.first = xp.concatenate([*firsts, xp.full(1, entries, np.int32)])
        self.home = _one(xp, homes)
        self.sources, self.shares = _one(xp, sources), _one(xp, shares)
        self.piece_first = xp.zeros(self.vertices + 1, np.int32)
        lengths = self.first[1:] - self.first[:-1]
        self.piece_first[1:] = xp.cumsum((lengths + np.int32(PIECE - 1)) // np.int32(PIECE), dtype=np.int32)
        self.pieces = self.vertices + entries // PIECE  # at most
        self.piece_vertex = xp.full(self.pieces, -1, np.int32)
        launch("lattice", "cut_lists", self.vertices, (self.piece_first, self.piece_vertex, self.vertices))

    def plan(self, rows: Any, *, transpose: bool = False) -> tuple[list[Callable[[], None]], Any]:
        """Return the launches that splat and blur `rows`, and the two buffers of vertices' rows that they use.

        They end in buffer `axes` % 2.

        Parameters
        ----------
        rows : (N, width) array, width a multiple of 4
        transpose : bool
            Blur the axes in the opposite order; for one lattice.

        Returns
        -------
        list of callable, (2, vertices, width) array
        """
        xp, kind, width = module_of(rows), rows.dtype, rows.shape[1]
        quads, count = width // 4, self.vertices * (width // 4)
        if max(self.pieces * quads, rows.size // 4) > MOST_ITEMS:
            raise BudgetError(f"CRF of {width} labels on {self.vertices:,} vertices: more than a CUDA device counts; "
                              "use a smaller image or larger sigmas, or device 'cpu'")
        values, partial = xp.empty((2, self.vertices, width), kind), xp.empty((self.pieces, width), kind)
        steps = [prepare("lattice", "splat", self.pieces * quads,
                         (rows, self.sources, self.shares, self.first, self.piece_first, self.piece_vertex, self.home,
                          partial, values, self.pieces * quads, quads, PIECE), real=kind),
                 prepare("lattice", "merge", count, (partial, self.piece_first, self.home, values, count, quads),
                         real=kind)]
        for turn in range(self.axes):
            axis = self.axes - 1 - turn if transpose else turn
            items = self._ends[turn] * quads
            steps.append(prepare("lattice", "blur", items,
                                 (self.neighbours[axis, 0], self.neighbours[axis, 1], values[turn % 2],
                                  values[1 - turn % 2], items, quads), real=kind))
        return steps, values


def _one(xp: Any, parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else xp.concatenate(parts)


def to_rows(planes: Any) -> Any:
    """Return planes (C, N), gapless, as rows (N, C padded to a multiple of 4)."""
    channels, points = planes.shape
    quads = padded_width(channels) // 4
    rows = module_of(planes).empty((points, 4 * quads), planes.dtype)
    launch("lattice", "pack", points * quads, (planes, rows, points * quads, points, channels, quads),
           real=planes.dtype)
    return rows


def to_planes(rows: Any, channels: int) -> Any:
    """Return rows (N, width) as planes (`channels`, N)."""
    points, width = rows.shape
    planes = module_of(rows).empty((channels, points), rows.dtype)
    launch("lattice", "unpack", points * width // 4, (rows, planes, points * width // 4, points, channels, width // 4),
           real=rows.dtype)
    return planes


# -- features -----------------------------------------------------------------------------------------


def _positions(xp: Any, shape: Sequence[int], sigma: Sequence[float], out: Any) -> np.ndarray:
    """Write positions x/sx, y/sy, … into `out` (d, \\*shape), last axis of the grid first; return their bounds."""
    dims = len(shape)
    for i, s in enumerate(sigma):
        place = [1] * dims
        place[dims - 1 - i] = -1
        out[i] = (xp.arange(shape[dims - 1 - i], dtype=np.float32) / np.float32(s)).reshape(place)
    return np.array([(0, np.float32(n - 1) / np.float32(s)) for n, s in zip(shape[::-1], sigma)], np.float32)


_kept: weakref.WeakKeyDictionary[Any, OrderedDict[tuple, DeviceLattice]] = weakref.WeakKeyDictionary()


def position_lattice(backend: Any, shape: tuple[int, ...], sigma: tuple[float, ...]) -> DeviceLattice:
    """Return the lattice of the grid's positions on the backend's device, kept for its next image of this size."""
    held, key = _kept.setdefault(backend, OrderedDict()), (shape, sigma)
    lattice = held.pop(key, None)
    if lattice is None:
        features = backend.xp.empty((len(shape), *shape), np.float32)
        bounds = _positions(backend.xp, shape, sigma, features)
        lattice = DeviceLattice(features.reshape(len(shape), math.prod(shape)), bounds)
    held[key] = lattice
    while len(held) > KEPT_LATTICES:
        held.popitem(last=False)
    return lattice


def image_lattice(image: Any, sigma_xy: Sequence[float], sigma_rgb: Sequence[float]) -> DeviceLattice:
    """Return the lattice of positions and channels of an image (\\*shape, C) on the device, of any real dtype."""
    *shape, channels = image.shape
    dims, xp = len(shape), module_of(image)
    features = xp.empty((dims + channels, *shape), np.float32)
    places = _positions(xp, shape, sigma_xy, features)
    for c, s in enumerate(sigma_rgb):
        features[dims + c] = image[..., c].astype(np.float32) / np.float32(s)
    bounds = None
    if image.dtype == np.uint8:
        bounds = np.concatenate([places, [(0, np.float32(255) / np.float32(s)) for s in sigma_rgb]]).astype(np.float32)
    return DeviceLattice(features.reshape(dims + channels, math.prod(shape)), bounds)
