"""Mean-field iterations over kernels on lattices; contract of the compiled half `meanfield_cpu`.

An iteration is: merge the chunks' copies of vertices, blur them, and one pass over the points that
slices all kernels, updates, normalises and splats. Energies are read where they lie, and beliefs are
written once, at the end.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from atrouscaffe.crf.lattice import TILE, VERTEX_GRAIN, Cut, Lattice, aligned, padded_lanes
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.threads import chunks, num_threads, parallel

__all__ = ["NORMALIZATIONS", "Kernel", "MeanField", "Outcome", "choose_labels"]

NORMALIZATIONS = ("after", "before", "symmetric", "none")
NEGLIGIBLE = 0.03  # labels whose belief is proved to stay below this everywhere may be pruned


@dataclass(eq=False)
class Kernel:
    """One pairwise term: a lattice, how it is normalised, and the labels' compatibility.

    Attributes
    ----------
    lattice : Lattice
    normalization : {"after", "before", "symmetric", "none"}
    weight : float
        Strength.
    pattern : None, (L,) or (L, L) float32
        None is Potts, a vector holds each label's share of the weight, a matrix the cost of each pair
        of labels in units of the weight.
    """

    lattice: Lattice
    normalization: str
    weight: float
    pattern: np.ndarray | None = None

    @property
    def compatibility(self) -> float | np.ndarray:
        """What multiplies filtered beliefs: a number is added to the logits, a matrix subtracted.

        A vector is subtracted too, which is the original's sign and the opposite of `pattern`'s.
        """
        if self.pattern is None:
            return self.weight
        return ((-self.weight if self.pattern.ndim == 1 else self.weight) * self.pattern).astype(np.float32)

    def factors(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return what multiplies values at each place before and after the filter; None is nothing."""
        if self.normalization == "none":
            return None, None
        inverse = self.lattice.inverse
        if self.normalization == "symmetric":
            root = np.sqrt(inverse)
            return root, root
        return (inverse, None) if self.normalization == "before" else (None, inverse)

    @functools.cached_property
    def own(self) -> np.ndarray:
        """Weight with which each point meets itself, (N,) float64 in the order of the cut."""
        from atrouscaffe.crf.filter_cpu import own_weights

        lattice, starts = self.lattice, self.lattice.cut.starts
        out = np.empty(lattice.points)
        parallel(lambda c: own_weights(starts[c], starts[c + 1], lattice.row_starts[c], lattice.named, lattice.ids,
                                       lattice.weights, lattice.neighbours, out), lattice.cut.chunks)
        out *= lattice.alpha
        for factor in self.factors():
            if factor is not None:
                out *= factor
        return out

    def apply(self, values: np.ndarray, *, transpose: bool = False) -> np.ndarray:
        """Return the filtered and normalised values (C, N) in the points' own order; no compatibility."""
        before, after = (factor if factor is None else self.natural(factor) for factor in self.factors())
        if transpose:
            before, after = after, before
        out = self.lattice.filter(values if before is None else values * before, transpose=transpose)
        if after is not None:
            out *= after
        return out

    def natural(self, values: np.ndarray) -> np.ndarray:
        """Return values in the points' own order from those in the order of the cut."""
        out = np.empty_like(values)
        out[self.lattice.cut.order] = values
        return out

    def mix(self, values: np.ndarray) -> np.ndarray:
        """Return what filtered beliefs (L, N) add to the logits."""
        if self.pattern is None:
            return values * self.weight
        pattern = self.weight * self.pattern.astype(values.dtype)
        return values * pattern[:, None] if pattern.ndim == 1 else -pattern @ values


class MeanField:
    """Mean-field inference over fixed kernels.

    Parameters
    ----------
    kernels : sequence of Kernel
        All on lattices of the same cut.
    labels : int
    cut : Cut
        How the points are cut; of all the kernels' lattices.
    overwrite : bool
        A run may write its beliefs over the energies, where it does not need both.
    """

    def __init__(self, kernels: Sequence[Kernel], labels: int, cut: Cut, overwrite: bool = False) -> None:
        self.kernels = list(kernels)
        self.labels = labels
        self.cut = cut
        self.overwrite = overwrite

    def run(self, energies: np.ndarray, iterations: int, *, relax: float = 1.0, exact: bool = True,
            watch: Callable[[int, np.ndarray], bool | None] | None = None, measure: bool = False,
            tolerance: float | None = None) -> Outcome:
        """Make parallel updates from ``softmax(-energies)``.

        Parameters
        ----------
        energies : (L, N) float32, contiguous
        iterations : int
        relax : float
            Share of the new beliefs in each update; 1 is the original.
        exact : bool
            Keep all labels, also those that provably cannot matter; so do `measure` and `relax`.
        watch : callable, optional
            Called with the iteration and its beliefs (L, N); returning True stops.
        measure : bool
            Work out the KL divergence after each update, which takes all labels and one more pass.
        tolerance : float, optional
            Stop when the divergence changed by less, in nats a point.
        """
        return _Run(self, energies, relax, exact, watch, measure).iterate(iterations, tolerance)

    def messages(self, beliefs: np.ndarray) -> np.ndarray:
        """Return the sum of all kernels' messages, what is added to the logits, of beliefs (L, N).

        One kernel at a time, float64 where the beliefs are.
        """
        total = np.zeros_like(beliefs)
        for kernel in self.kernels:
            total += kernel.mix(kernel.apply(beliefs))
        return total


@dataclass(frozen=True)
class Outcome:
    """What a run gives: beliefs (L, N) after `iterations`, what pruning did, divergence by iteration."""

    beliefs: np.ndarray
    iterations: int
    error_bound: float
    pruned: np.ndarray
    kl: tuple[float, ...]
    energy: tuple[float, ...]


def choose_labels(near: np.ndarray, kernels: Sequence[Kernel]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return (kept labels, dropped labels, largest message of a dropped one).

    `near` holds each label's largest ``U_min - U_l``. With row-stochastic filters and weights
    that sum to W, messages of label l stay in [0, W S_l] where S_l bounds its beliefs everywhere,
    so S = exp(near + W S) is such a bound (the smallest solution, by induction over iterations).
    Labels with S below `NEGLIGIBLE` are dropped if that makes rows narrower: their messages count
    as 0 and the rest of the mass stays exact.
    """
    labels = near.size
    everything = np.arange(labels), np.arange(0), 0.0
    plain = all(np.ndim(kernel.compatibility) == 0 and kernel.compatibility >= 0 and kernel.normalization == "after"
                for kernel in kernels)
    strength = sum(float(kernel.compatibility) for kernel in kernels) if plain and kernels else np.inf
    if not plain or not kernels:
        return everything
    start = np.exp(near.astype(np.float64))
    bound = start.copy()
    for _ in range(60):
        bound = np.minimum(1.0, start * np.exp(strength * bound))
    lanes, blocks = padded_lanes(labels)
    need = int((bound > NEGLIGIBLE).sum())
    fewer, fewer_blocks = padded_lanes(need + 1)
    if fewer * fewer_blocks >= lanes * blocks:
        return everything
    ranked = np.argsort(-bound, kind="stable")
    room = fewer * fewer_blocks - 1
    dropped = np.sort(ranked[room:])
    return np.sort(ranked[:room]), dropped, float(strength * bound[dropped].max())


class _Run:
    """Buffers and settings of one inference.

    A kernel's vertices have two buffers of values, between which the blur goes to and fro. The second
    one lies in the memory of the chunks' copies, which are not needed while the first is blurred. An odd
    last axis is blurred when a chunk collects what it reads, so values always end in the first.
    """

    def __init__(self, field: MeanField, energies: np.ndarray, relax: float, exact: bool,
                 watch: Callable[[int, np.ndarray], bool | None] | None, measure: bool) -> None:
        from atrouscaffe.crf import meanfield_cpu

        self.kernels, self.labels, self.cut, self.points = field.kernels, field.labels, field.cut, field.cut.points
        self.lattices = [kernel.lattice for kernel in self.kernels]
        self.energies, self.relax, self.watch = energies.ravel(), np.float32(relax), watch
        self.measure = measure
        self.keep = watch is not None or measure or relax != 1.0
        self._choose(exact or measure or relax != 1.0)
        self.result = self.energies
        if self.keep or not field.overwrite:
            self.result = aligned(self.labels * self.points)
        self._take_buffers()
        self.wide = max((lattice.ids.dtype for lattice in self.lattices), key=lambda kind: kind.itemsize,
                        default=np.dtype(np.uint16))
        self.ids = [lattice.ids.astype(self.wide, copy=False) for lattice in self.lattices]
        self.factors = [kernel.factors() for kernel in self.kernels]
        rows = np.array([lattice.row_starts for lattice in self.lattices]).reshape(-1, self.cut.chunks + 1)
        self.rows_of = np.ascontiguousarray(rows).ravel()
        self.local_size = (int(np.diff(rows, axis=1).sum(axis=0).max()) * self.width +
                           meanfield_cpu.work_size(self.width, self.kept.size))
        self.spare: list[np.ndarray] = []  # work space that no thread uses at the moment

    def _choose(self, exact: bool) -> None:
        """Check the energies and choose labels."""
        from atrouscaffe.crf import meanfield_cpu

        pieces = chunks(self.points, TILE)
        near = np.empty((len(pieces), self.labels), np.float32)
        bad = np.full(len(pieces), -1, np.int64)

        def look(n: int) -> None:
            bad[n] = meanfield_cpu.survey(*pieces[n], self.energies, self.labels, self.points, near[n])

        parallel(look, len(pieces))
        if bad.max() >= 0:
            values = self.energies.reshape(self.labels, self.points)[:8, bad.max()].tolist()
            raise ArgumentError("unary: expected energies with no NaN and no -inf, and not +inf for every label, got "
                                f"{values} at point {bad.max()}")
        kept, dropped, message = choose_labels(near.max(axis=0), () if exact else self.kernels)
        self.kept, self.dropped, self.slack = kept, dropped, np.float32(np.expm1(message))
        self.lanes, self.blocks = padded_lanes(kept.size + (dropped.size > 0))
        self.width = self.lanes * self.blocks
        self.rest = np.zeros(self.points + meanfield_cpu.GROUP if dropped.size else 0, np.float32)

    def _take_buffers(self) -> None:
        """Take memory for the vertices' values; their copies lie in that of the result while it is not needed."""
        sizes = [max(lattice.named.size, lattice.vertices + 1) * self.width for lattice in self.lattices]
        sizes = [-(-size // 16) * 16 for size in sizes]
        free = not self.keep and self.result is not self.energies and sum(sizes) <= self.result.size
        shared = self.result if free else aligned(sum(sizes))
        ends = np.cumsum([0, *sizes])
        self.partial = [shared[a:b] for a, b in itertools.pairwise(ends)]
        self.values = [aligned((lattice.vertices + 1) * self.width) for lattice in self.lattices]
        for lattice, values in zip(self.lattices, self.values):
            values[lattice.vertices * self.width:] = 0  # what vertices that do not exist hold

    def iterate(self, iterations: int, tolerance: float | None) -> Outcome:
        """Run the passes; the last one writes beliefs instead of splatting them.

        The divergence of beliefs needs their messages, so it is known in the next pass; with
        measurements one pass follows that only measures.
        """
        figures = np.zeros((self.cut.chunks, 4))
        kl: list[float] = []
        energy: list[float] = []
        done = 0
        for iteration in range(iterations + 1 + self.measure):
            if iteration:
                self._filter()
            own = self._own_pairs() if self.measure and iteration else 0.0
            figures[:] = 0
            last = iteration >= iterations
            self._pass(iteration == 0, (last or self.keep) and iteration <= iterations,
                       not last or (self.measure and iteration == iterations), figures)
            if self.measure and iteration:
                unary, pairs, entropy = figures[:, :3].sum(axis=0).tolist()
                energy.append(unary - 0.5 * (pairs - own))
                kl.append(energy[-1] + entropy)
            if iteration > iterations:
                break
            done = iteration
            result = self.result.reshape(self.labels, self.points)
            if self.watch is not None and self.watch(iteration, result):
                break
            if tolerance is not None and len(kl) > 1 and abs(kl[-1] - kl[-2]) <= tolerance * self.points:
                break
        error = float(figures[:, 3].max()) if self.dropped.size else 0.0
        return Outcome(result, done, min(1.0, error), self.dropped, tuple(kl), tuple(energy))

    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (addresses, taps, factors) of the kernels' arrays as the compiled pass wants them."""
        from atrouscaffe.crf import meanfield_cpu

        tables = np.zeros((len(self.kernels), meanfield_cpu.COLUMNS), np.int64)
        factors = np.empty(len(self.kernels), np.float32)
        for k, (kernel, lattice) in enumerate(zip(self.kernels, self.lattices)):
            before, after = self.factors[k]
            scale = kernel.compatibility if np.ndim(kernel.compatibility) == 0 else 1.0
            factors[k] = float(scale) * lattice.alpha
            odd = lattice.neighbours[-1] if lattice.dims % 2 == 0 else (None, None)
            for column, array in enumerate((self.ids[k], lattice.weights, after, before, lattice.named, self.values[k],
                                            self.partial[k], *odd)):
                tables[k, column] = 0 if array is None else array.ctypes.data
        return tables.ravel(), np.array([lattice.dims + 1 for lattice in self.lattices], np.int64), factors

    def _pass(self, first: bool, write: bool, splat: bool, figures: np.ndarray) -> None:
        """Make one update of all chunks."""
        from atrouscaffe.crf import meanfield_cpu

        cut = self.cut
        update = meanfield_cpu.make_update(self.lanes, self.blocks == 1)
        tables, taps, factors = self._tables()
        ids, named = np.empty(0, self.wide), np.empty(0, np.int32)
        runs = (cut.run_starts, cut.run_places, cut.run_points)
        pieces = chunks(cut.chunks, max(1, cut.chunks // (8 * num_threads())))  # chunks are worked on one by one

        settings = np.float32([0, 1]) if first else (self.slack, self.relax)  # the first beliefs are exact

        def step(n: int) -> None:
            try:
                local = self.spare.pop()
            except IndexError:
                local = aligned(self.local_size, zero=True)
            update(*pieces[n], runs, ids, named, tables, taps, factors, self.rows_of, self.blocks, self.energies,
                   self.points, self.kept, self.dropped, self.rest, *settings,
                   local, self.result, figures, first, write, splat, self.measure and not first)
            self.spare.append(local)

        parallel(step, len(pieces))

    def _own_pairs(self) -> float:
        """Return what points that pair with themselves add to the sum of beliefs times messages."""
        beliefs = self.result.reshape(self.labels, self.points)
        total = 0.0
        for kernel in self.kernels:
            own = kernel.natural(kernel.own)
            for a, b in chunks(self.points, 16 * TILE):
                rows = beliefs[:, a:b].astype(np.float64)
                total += float((own[a:b] * (rows * kernel.mix(rows)).sum(axis=0)).sum())
        return total

    def _filter(self) -> None:
        """Merge, blur and mix labels; only a last odd axis remains to be blurred."""
        pieces = [(k, a, b) for k, lattice in enumerate(self.lattices)
                  for a, b in chunks(lattice.vertices, VERTEX_GRAIN)]
        self._merge(pieces)
        self._blur(pieces)
        for k, kernel in enumerate(self.kernels):
            self._mix(kernel, k)

    def _merge(self, pieces: list[tuple[int, int, int]]) -> None:
        """Add up the chunks' copies of vertices."""
        from atrouscaffe.crf import filter_cpu

        merge = filter_cpu.make_merge_rows(self.lanes)

        def work(n: int) -> None:
            k, a, b = pieces[n]
            merge(a, b, self.blocks, self.lattices[k].first, self.lattices[k].copies, self.partial[k], self.values[k])

        parallel(work, len(pieces))

    def _blur(self, pieces: list[tuple[int, int, int]]) -> None:
        """Blur along all axes but a last odd one."""
        from atrouscaffe.crf import filter_cpu

        blur = filter_cpu.make_blur(self.lanes)
        for k, lattice in enumerate(self.lattices):
            at = lattice.vertices * self.width
            self.partial[k][at:at + self.width] = 0
        axes = [(lattice.dims + 1) // 2 * 2 for lattice in self.lattices]
        for j in range(max(axes, default=0)):
            todo = [piece for piece in pieces if j < axes[piece[0]]]

            def work(n: int) -> None:
                k, a, b = todo[n]  # noqa: B023
                ahead, behind = self.lattices[k].neighbours[j]  # noqa: B023
                pair = (self.values[k], self.partial[k])
                blur(a, b, self.blocks, ahead, behind, pair[j % 2], pair[1 - j % 2])  # noqa: B023

            parallel(work, len(todo))

    def _mix(self, kernel: Kernel, k: int) -> None:
        """Apply a vector or matrix compatibility to the vertices, which is cheaper than at the points."""
        if np.ndim(kernel.compatibility) == 0:
            return
        rows = self.values[k].reshape(-1, self.width)[:, : self.labels]
        if kernel.compatibility.ndim == 1:
            rows *= -kernel.compatibility
        else:
            rows[:] = rows @ -kernel.compatibility.T
