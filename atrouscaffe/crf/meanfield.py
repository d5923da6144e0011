"""Mean-field iterations over kernels on lattices; contract of the compiled half `meanfield_cpu`.

All kernels are joined into one set of vertices, so that an iteration is: merge the chunks' copies
of vertices, blur them, and one pass over the points that slices, updates, normalises and splats.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from atrouscaffe.crf.lattice import VERTEX_GRAIN, Cut, Lattice, aligned, padded_lanes
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["NORMALIZATIONS", "Kernel", "MeanField", "Outcome", "choose_labels"]

NORMALIZATIONS = ("after", "before", "symmetric", "none")
UNROLLED = ((0, 3, 9),)  # position and bilateral kernel of a colour image: the loops over taps are unrolled
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
    def factors(self) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Return what multiplies values before and after the filter."""
        if self.normalization == "none":
            return 1.0, 1.0
        if self.normalization == "symmetric":
            root = 1 / np.sqrt(self.lattice.norm + np.float32(1e-20))
            return root, root
        inverse = 1 / (self.lattice.norm + np.float32(1e-20))
        return (inverse, 1.0) if self.normalization == "before" else (1.0, inverse)

    @functools.cached_property
    def own(self) -> np.ndarray:
        """Weight with which each point meets itself, (N,) float64 in the order of the cut."""
        from atrouscaffe.crf.filter_cpu import own_weights

        lattice, starts = self.lattice, self.lattice.cut.starts
        out = np.empty(lattice.points)
        parallel(lambda c: own_weights(starts[c], starts[c + 1], lattice.row_starts[c], lattice.named, lattice.ids,
                                       lattice.weights, lattice.neighbours, out), lattice.cut.chunks)
        before, after = self.factors()
        return out * lattice.alpha * before * after

    def apply(self, values: np.ndarray, *, transpose: bool = False) -> np.ndarray:
        """Return the filtered and normalised values (C, N) in the points' own order; no compatibility."""
        before, after = (self._natural(factor) for factor in self.factors())
        if transpose:
            before, after = after, before
        return self.lattice.filter(values * before, transpose=transpose) * after

    def _natural(self, factor: np.ndarray | float) -> np.ndarray | float:
        if not isinstance(factor, np.ndarray):
            return factor
        out = np.empty_like(factor)
        out[self.lattice.cut.order] = factor
        return out

    def mix(self, values: np.ndarray) -> np.ndarray:
        """Return what filtered beliefs (L, N) add to the logits."""
        if self.pattern is None:
            return values * self.weight
        pattern = self.weight * self.pattern.astype(values.dtype)
        return values * pattern[:, None] if pattern.ndim == 1 else -pattern @ values


class _Joined:
    """The kernels' lattices side by side: one row of taps a point, one numbering of vertices."""

    def __init__(self, kernels: Sequence[Kernel], cut: Cut) -> None:
        from atrouscaffe.crf.meanfield_cpu import join

        lattices = [kernel.lattice for kernel in kernels]
        self.cut = cut
        points = self.cut.points
        self.tap_starts = np.cumsum([0, *(lattice.dims + 1 for lattice in lattices)], dtype=np.int64)
        self.vertex_starts = np.cumsum([0, *(lattice.vertices for lattice in lattices)], dtype=np.int64)
        self.taps, self.vertices = int(self.tap_starts[-1]), int(self.vertex_starts[-1])
        sizes = np.array([np.diff(lattice.row_starts) for lattice in lattices]).reshape(-1, cut.chunks)
        offsets = np.cumsum(sizes, axis=0) - sizes  # of a kernel's rows within its chunk
        self.row_starts = np.concatenate([[0], np.cumsum(sizes.sum(axis=0))]).astype(np.int64)
        self.ids = np.empty((points, self.taps), np.int32)
        self.weights = np.empty((points, self.taps), np.float32)
        self.named = np.empty(self.row_starts[-1], np.int32)
        self.copies: list[np.ndarray] = []
        for k, lattice in enumerate(lattices):
            shift = np.repeat(self.row_starts[:-1] + offsets[k] - lattice.row_starts[:-1], sizes[k])
            place = (np.arange(lattice.named.size) + shift).astype(np.int32)
            self.named[place] = lattice.named + np.int32(self.vertex_starts[k])
            self.copies.append(place[lattice.copies])
        starts = cut.starts

        def copy(c: int) -> None:
            for k, lattice in enumerate(lattices):
                join(starts[c], starts[c + 1], offsets[k, c], lattice.ids, lattice.weights, self.tap_starts[k],
                     self.ids, self.weights)

        parallel(copy, cut.chunks)
        self.before = np.empty((points, len(kernels)), np.float32)
        self.after = np.empty((points, len(kernels)), np.float32)
        self.neighbours = []
        for k, kernel in enumerate(kernels):
            before, after = kernel.factors()
            scale = kernel.compatibility if np.ndim(kernel.compatibility) == 0 else 1.0
            self.before[:, k] = before
            self.after[:, k] = np.asarray(after, np.float32) * np.float32(float(scale) * kernel.lattice.alpha)
            shifted = kernel.lattice.neighbours + np.int32(self.vertex_starts[k])
            shifted[kernel.lattice.neighbours == kernel.lattice.vertices] = self.vertices  # the row of zeros
            self.neighbours.append(shifted)


class MeanField:
    """Mean-field inference over fixed kernels.

    Parameters
    ----------
    kernels : sequence of Kernel
        All on lattices of the same cut.
    labels : int
    cut : Cut
        How the points are cut; of all the kernels' lattices.
    """

    def __init__(self, kernels: Sequence[Kernel], labels: int, cut: Cut) -> None:
        self.kernels = list(kernels)
        self.labels = labels
        self.joined = _Joined(self.kernels, cut)

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
            Keep all labels, also those that provably cannot matter.
        watch : callable, optional
            Called with the iteration and its beliefs (L, N); returning True stops.
        measure : bool
            Work out the KL divergence after each update, which takes all labels and one more pass.
        tolerance : float, optional
            Stop when the divergence changed by less, in nats a point.
        """
        return _Run(self, energies, relax, exact or measure, watch, measure).iterate(iterations, tolerance)

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
    """Buffers and settings of one inference."""

    def __init__(self, field: MeanField, energies: np.ndarray, relax: float, exact: bool,
                 watch: Callable[[int, np.ndarray], bool | None] | None, measure: bool) -> None:
        self.field, self.joined, self.cut = field, field.joined, field.joined.cut
        self.kernels, self.labels, self.points = field.kernels, field.labels, field.joined.cut.points
        self.energies, self.relax, self.watch = energies.ravel(), np.float32(relax), watch
        self.measure = measure
        self.keep = watch is not None or measure or relax != 1.0
        self._take(exact)
        rows = self.joined.row_starts
        self.beliefs = aligned(self.points * self.width if self.keep else 0)
        self.partial = aligned(int(rows[-1]) * self.width)
        self.buffers = tuple(aligned((self.joined.vertices + 1) * self.width, zero=True) for _ in range(2))
        self.local_size = int(np.diff(rows).max()) * self.width
        self.result = np.empty((self.labels, self.points), np.float32)
        self.spare: list[tuple[np.ndarray, np.ndarray]] = []  # work space that no thread uses at the moment

    def _take(self, exact: bool) -> None:
        """Check the energies, choose labels, and lay logits out in rows."""
        from atrouscaffe.crf import meanfield_cpu

        cut, points = self.cut, self.points
        self.least = np.empty(points, np.float32)
        near = np.empty((cut.chunks, self.labels), np.float32)
        bad = np.full(cut.chunks, -1, np.int64)

        def look(c: int) -> None:
            bad[c] = meanfield_cpu.survey(cut.runs[c], cut.longest, cut.order, self.energies, self.labels, points,
                                          self.least, near[c])

        parallel(look, cut.chunks)
        if bad.max() >= 0:
            values = self.energies.reshape(self.labels, points)[:8, bad.max()].tolist()
            raise ArgumentError("unary: expected energies with no NaN and no -inf, and not +inf for every label, got "
                                f"{values} at point {bad.max()}")
        kept, dropped, message = choose_labels(near.max(axis=0), () if exact else self.kernels)
        self.kept, self.dropped, self.slack = kept, dropped, np.float32(np.expm1(message))
        self.first_lane = 1 if dropped.size else 0
        self.lanes, self.blocks = padded_lanes(kept.size + self.first_lane)
        self.width = self.lanes * self.blocks
        self.logits = aligned(points * self.width)
        self.rest = np.empty(points if dropped.size else 0, np.float32)

        def take(c: int) -> None:
            meanfield_cpu.ingest(cut.runs[c], cut.longest, cut.order, self.energies, points, self.least, kept, dropped,
                                 self.first_lane, self.width, self.logits, self.rest)

        parallel(take, cut.chunks)

    def iterate(self, iterations: int, tolerance: float | None) -> Outcome:
        """Run the passes; the last one writes beliefs instead of splatting them.

        The divergence of beliefs needs their messages, so it is known in the next pass; with
        measurements one pass follows that only measures.
        """
        figures = np.zeros((self.cut.chunks, 4))
        kl: list[float] = []
        energy: list[float] = []
        done = 0
        offset = float(self.least.sum(dtype=np.float64))  # the logits are relative to it
        for iteration in range(iterations + 1 + self.measure):
            if iteration:
                self._filter()
            own = self._own_pairs() if self.measure and iteration else 0.0
            figures[:] = 0
            self._pass(iteration == 0, iteration >= iterations, iteration >= iterations + self.measure and
                       self.measure, figures)
            if self.measure and iteration:
                unary, pairs, entropy = figures[:, :3].sum(axis=0).tolist()
                energy.append(offset + unary - 0.5 * (pairs - own))
                kl.append(energy[-1] + entropy)
            if iteration > iterations:
                break
            done = iteration
            if self.watch is not None and self.watch(iteration, self.result):
                break
            if tolerance is not None and len(kl) > 1 and abs(kl[-1] - kl[-2]) <= tolerance * self.points:
                break
        if self.keep and done < iterations:
            self._write_kept()
        error = float(figures[:, 3].max()) if self.dropped.size else 0.0
        return Outcome(self.result, done, min(1.0, error), self.dropped, tuple(kl), tuple(energy))

    def _pass(self, first: bool, last: bool, discard: bool, figures: np.ndarray) -> None:
        """Make one update of all chunks; `discard` leaves the result as it is."""
        from atrouscaffe.crf import meanfield_cpu

        joined, cut, keep = self.joined, self.cut, self.keep
        starts, rows = cut.starts, joined.row_starts
        usual = tuple(joined.tap_starts.tolist())
        update = meanfield_cpu.make_update(self.lanes, usual if usual in UNROLLED else ())
        ids, weights = joined.ids.ravel(), joined.weights.ravel()
        after, before = joined.after.ravel(), joined.before.ravel()
        splat = not last or (self.measure and not discard)

        def step(c: int) -> None:
            try:
                local, scratch = self.spare.pop()
            except IndexError:
                local, scratch = aligned(self.local_size), aligned(meanfield_cpu.GROUP * self.width)
            stored = keep or not last
            beliefs = self.beliefs if stored else aligned((starts[c + 1] - starts[c]) * self.width)
            base = 0 if stored else starts[c]
            update(starts[c], starts[c + 1], rows[c], rows[c + 1], joined.tap_starts, self.blocks, joined.named,
                   self.buffers[0], self.logits, ids, weights, after, before, beliefs, base, self.partial, local,
                   scratch, self.rest, self.slack, figures[c], first, keep or last, splat, self.relax,
                   self.measure and not first)
            if (last or self.watch is not None) and not discard:
                self._write(c, beliefs, base)
            self.spare.append((local, scratch))

        parallel(step, cut.chunks)

    def _write(self, c: int, beliefs: np.ndarray, base: int) -> None:
        """Write a chunk's rows of beliefs to the result."""
        from atrouscaffe.crf import meanfield_cpu

        meanfield_cpu.write_beliefs(self.cut.runs[c], self.cut.longest, self.cut.order, beliefs, base, self.energies,
                                    self.points, self.least, self.kept, self.dropped, self.first_lane, self.width,
                                    self.rest, self.result.ravel())

    def _write_kept(self) -> None:
        parallel(lambda c: self._write(c, self.beliefs, 0), self.cut.chunks)

    def _own_pairs(self) -> float:
        """Return what points that pair with themselves add to the sum of beliefs times messages."""
        rows = self.beliefs.reshape(self.points, self.width)[:, : self.labels].T.astype(np.float64)
        return sum(float((kernel.own * (rows * kernel.mix(rows)).sum(axis=0)).sum()) for kernel in self.kernels)

    def _filter(self) -> None:
        """Merge, blur and mix labels; the first buffer receives the values."""
        from atrouscaffe.crf import filter_cpu

        joined, blocks, buffers = self.joined, self.blocks, self.buffers
        merge, blur = filter_cpu.make_merge_rows(self.lanes), filter_cpu.make_blur(self.lanes)
        axes = [kernel.lattice.dims + 1 for kernel in self.kernels]
        pieces = [(k, a, b) for k, kernel in enumerate(self.kernels)
                  for a, b in chunks(kernel.lattice.vertices, VERTEX_GRAIN)]

        def merge_piece(n: int) -> None:
            k, a, b = pieces[n]
            # odd numbers of axes begin in the second buffer, so that all kernels end in the first
            merge(a, b, blocks, self.kernels[k].lattice.first, joined.copies[k], self.partial, buffers[axes[k] % 2],
                  joined.vertex_starts[k])

        parallel(merge_piece, len(pieces))
        for j in range(max(axes, default=0)):
            todo = [piece for piece in pieces if j < axes[piece[0]]]

            def blur_piece(n: int) -> None:
                k, a, b = todo[n]  # noqa: B023
                ahead, behind = joined.neighbours[k][j]  # noqa: B023
                side = (axes[k] + j) % 2  # noqa: B023
                blur(a, b, blocks, ahead, behind, buffers[side], buffers[1 - side], joined.vertex_starts[k])

            parallel(blur_piece, len(todo))
        for k, kernel in enumerate(self.kernels):
            self._mix(kernel, k)

    def _mix(self, kernel: Kernel, k: int) -> None:
        """Apply a vector or matrix compatibility to the vertices, which is cheaper than at the points."""
        if np.ndim(kernel.compatibility) == 0:
            return
        a, b = self.joined.vertex_starts[k], self.joined.vertex_starts[k + 1]
        rows = self.buffers[0].reshape(-1, self.width)[a:b, : self.labels]
        if kernel.compatibility.ndim == 1:
            rows *= -kernel.compatibility
        else:
            rows[:] = rows @ -kernel.compatibility.T
