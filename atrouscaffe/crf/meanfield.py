"""Mean-field iterations over kernels on lattices; contract of the compiled half `meanfield_cpu`.

All kernels are joined into one set of vertices, so that an iteration is: merge the chunks' copies
of vertices, blur them, and one pass over the points that slices, updates, normalises and splats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from atrouscaffe.crf.lattice import VERTEX_GRAIN, Cut, Lattice, padded_lanes
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["NORMALIZATIONS", "Kernel", "MeanField"]

NORMALIZATIONS = ("after", "before", "symmetric", "none")


@dataclass(eq=False)
class Kernel:
    """One pairwise term: a lattice, how it is normalised, and the labels' compatibility.

    Attributes
    ----------
    lattice : Lattice
    normalization : {"after", "before", "symmetric", "none"}
    compatibility : float, (L,) or (L, L) float32
        A number w adds w times the filtered beliefs to the logits; a vector or matrix is
        subtracted as an energy (the original's signs).
    """

    lattice: Lattice
    normalization: str
    compatibility: float | np.ndarray
    def factors(self) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Return what multiplies values before and after the filter."""
        if self.normalization == "none":
            return 1.0, 1.0
        if self.normalization == "symmetric":
            root = 1 / np.sqrt(self.lattice.norm + np.float32(1e-20))
            return root, root
        inverse = 1 / (self.lattice.norm + np.float32(1e-20))
        return (inverse, 1.0) if self.normalization == "before" else (1.0, inverse)


class _Joined:
    """The kernels' lattices side by side: one row of taps a point, one numbering of vertices."""

    def __init__(self, kernels: Sequence[Kernel], cut: Cut) -> None:
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
            a, b = self.tap_starts[k], self.tap_starts[k + 1]
            per_point = np.repeat(offsets[k].astype(np.int32), np.diff(self.cut.starts))
            np.add(lattice.ids, per_point[:, None], out=self.ids[:, a:b])
            self.weights[:, a:b] = lattice.weights
            shift = np.repeat(self.row_starts[:-1] + offsets[k] - lattice.row_starts[:-1], sizes[k])
            place = (np.arange(lattice.named.size) + shift).astype(np.int32)
            self.named[place] = lattice.named + np.int32(self.vertex_starts[k])
            self.copies.append(place[lattice.copies])
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
        self.lanes, self.blocks = padded_lanes(labels)
        self.width = self.lanes * self.blocks
        self.joined = _Joined(self.kernels, cut)

    def run(self, energies: np.ndarray, iterations: int, *, relax: float = 1.0,
            watch: Callable[[int, np.ndarray], bool | None] | None = None) -> np.ndarray:
        """Return the beliefs after `iterations` parallel updates.

        Parameters
        ----------
        energies : (L, N) float32, contiguous
        iterations : int
        relax : float
            Share of the new beliefs in each update; 1 is the original.
        watch : callable, optional
            Called with the iteration and its beliefs (L, N); returning True stops.

        Returns
        -------
        (L, N) float32
        """
        from atrouscaffe.crf import meanfield_cpu

        joined, cut = self.joined, self.joined.cut
        points, starts, rows = cut.points, cut.starts, joined.row_starts
        lanes, blocks, width = self.lanes, self.blocks, self.width
        logits = np.empty(points * width, np.float32)
        flat = energies.ravel()
        bad = np.full(cut.chunks, -1, np.int64)

        def take(c: int) -> None:
            bad[c] = meanfield_cpu.ingest(starts[c], starts[c + 1], cut.order, flat, self.labels, points, width, logits)

        parallel(take, cut.chunks)
        if bad.max() >= 0:
            raise ArgumentError(f"unary: expected energies with no NaN and no -inf, and not +inf for every label, got "
                                f"{energies[:, bad.max()].tolist()[:8]} at point {bad.max()}")
        keep_all = watch is not None or relax != 1.0
        beliefs = np.empty(points * width if iterations >= 0 else 0, np.float32)
        partial = np.empty(int(rows[-1]) * width, np.float32)
        source = np.zeros((joined.vertices + 1) * width, np.float32)
        target = np.zeros_like(source)
        local_size = int(np.diff(rows).max()) * width
        update = meanfield_cpu.make_update(lanes)
        figures = np.zeros((cut.chunks, 3))
        ids, weights = joined.ids.ravel(), joined.weights.ravel()
        after, before = joined.after.ravel(), joined.before.ravel()
        result = np.empty((self.labels, points), np.float32)

        def write() -> None:
            out = result.ravel()
            parallel(lambda c: meanfield_cpu.write_beliefs(starts[c], starts[c + 1], cut.order, beliefs, self.labels,
                                                           points, width, out), cut.chunks)

        for iteration in range(iterations + 1):
            last = iteration == iterations
            if iteration:
                source, target = self._filter(partial, source, target)

            def step(c: int) -> None:
                local = np.empty(local_size, np.float32)
                scratch = np.empty(width, np.float32)
                update(starts[c], starts[c + 1], rows[c], rows[c + 1], joined.taps, len(self.kernels),
                       joined.tap_starts, blocks, joined.named, source, logits, ids, weights, after, before, beliefs,  # noqa: B023
                       partial, local, scratch, figures[c], iteration == 0, keep_all or last, not last,  # noqa: B023
                       np.float32(relax), False)

            parallel(step, cut.chunks)
            if watch is not None:
                write()
                if watch(iteration, result):
                    return result
        if watch is None:
            write()
        return result

    def _filter(self, partial: np.ndarray, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Merge, blur and mix labels; return (buffer with the values, the other one)."""
        from atrouscaffe.crf import filter_cpu

        joined, blocks = self.joined, self.blocks
        merge, blur = filter_cpu.make_merge_rows(self.lanes), filter_cpu.make_blur(self.lanes)
        axes = [kernel.lattice.dims + 1 for kernel in self.kernels]
        buffers = (source, target)
        pieces = [(k, a, b) for k, kernel in enumerate(self.kernels)
                  for a, b in chunks(kernel.lattice.vertices, VERTEX_GRAIN)]

        def merge_piece(n: int) -> None:
            k, a, b = pieces[n]
            # odd numbers of axes begin in the second buffer, so that all kernels end in the first
            merge(a, b, blocks, self.kernels[k].lattice.first, joined.copies[k], partial, buffers[axes[k] % 2],
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
            self._mix(kernel, buffers[0], k)
        return buffers

    def _mix(self, kernel: Kernel, values: np.ndarray, k: int) -> None:
        """Apply a vector or matrix compatibility to the vertices, which is cheaper than at the points."""
        if np.ndim(kernel.compatibility) == 0:
            return
        a, b = self.joined.vertex_starts[k], self.joined.vertex_starts[k + 1]
        rows = values.reshape(-1, self.width)[a:b, : self.labels]
        if kernel.compatibility.ndim == 1:
            rows *= -kernel.compatibility
        else:
            rows[:] = rows @ -kernel.compatibility.T
