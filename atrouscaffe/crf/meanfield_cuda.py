"""Mean field on a CUDA device: see `atrouscaffe.crf.meanfield`.

All labels are kept (`exact`), all kernels' vertices are blurred together, and one kernel slices them,
adds the unary and normalises. The host waits once, for the check of the energies, and then only starts
kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.crf.lattice_cuda import MOST_ITEMS, DeviceLattice, Joined, padded_width, to_planes
from atrouscaffe.errors import ArgumentError, BudgetError
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch, prepare

__all__ = ["DeviceField", "DeviceKernel"]

WARP = 32


@dataclass(eq=False)
class DeviceKernel:
    """One pairwise term on the device; attributes as `atrouscaffe.crf.meanfield.Kernel`."""

    lattice: DeviceLattice
    normalization: str
    weight: float
    pattern: np.ndarray | None = None

    @functools.cached_property
    def factors(self) -> tuple[Any, Any]:
        """What multiplies values before and after the filter, (N,) float32 each; None is 1."""
        if self.normalization == "none":
            return None, None
        xp, norm = module_of(self.lattice.ids), self.lattice.norm + np.float32(1e-20)
        if self.normalization == "symmetric":
            root = np.float32(1) / xp.sqrt(norm)
            return root, root
        inverse = np.float32(1) / norm
        return (inverse, None) if self.normalization == "before" else (None, inverse)

    @property
    def matrix(self) -> np.ndarray | None:
        """What filtered beliefs (L, N) are multiplied by, on the host; None where a number does, `weight`."""
        if self.pattern is None:
            return None
        if self.pattern.ndim == 1:
            return np.diag(self.weight * self.pattern)
        return -self.weight * self.pattern

    @functools.cached_property
    def own(self) -> Any:
        """Weight with which each point meets itself, (N,) float64 on the device."""
        lattice, xp = self.lattice, module_of(self.lattice.ids)
        out = xp.empty(lattice.points, np.float64)
        launch("lattice", "own_weights", lattice.points, (lattice.ids, lattice.weights, lattice.neighbours, out,
                                                          lattice.points, lattice.dims + 1, lattice.vertices))
        out *= lattice.alpha
        for factor in self.factors:
            if factor is not None:
                out *= factor
        return out

    def apply(self, values: Any, *, transpose: bool = False) -> Any:
        """Return the filtered and normalised values (C, N) on the device; no compatibility."""
        before, after = self.factors[::-1] if transpose else self.factors
        out = self.lattice.filter(values if before is None else values * before, transpose=transpose)
        return out if after is None else out * after

    def mix(self, values: Any) -> Any:
        """Return what filtered beliefs (L, N) add to the logits."""
        if self.pattern is None:
            return values * values.dtype.type(self.weight)
        xp = module_of(values)
        pattern = xp.asarray((self.weight * self.pattern).astype(values.dtype))
        return values * pattern[:, None] if pattern.ndim == 1 else -(pattern @ values)


class DeviceField:
    """Mean-field inference over fixed kernels on the current device.

    Parameters
    ----------
    kernels : sequence of DeviceKernel
    labels, points : int
    """

    def __init__(self, kernels: Sequence[DeviceKernel], labels: int, points: int) -> None:
        self.kernels, self.labels, self.points = list(kernels), labels, points
        self.width = padded_width(labels)
        quads = self.width // 4
        self.group = min(WARP, 1 << (quads - 1).bit_length())  # threads a point
        if points * max(quads, self.group) > MOST_ITEMS:
            raise BudgetError(f"CRF of {labels} labels at {points:,} points: a CUDA device takes at most "
                              f"{MOST_ITEMS // max(quads, self.group):,} points; use a smaller image, or device 'cpu'")
        self.joined: Joined | None = None
        self.ids: Any = None
        self.weights: Any = None
        self.taps = 0
        if kernels:
            self._join()

    def _join(self) -> None:
        lattices = [kernel.lattice for kernel in self.kernels]
        xp = module_of(lattices[0].ids)
        self.joined = joined = Joined(lattices, [kernel.factors[0] for kernel in self.kernels])
        self.taps = sum(lattice.dims + 1 for lattice in lattices)
        self.ids = xp.empty((self.points, self.taps), np.int32)
        self.weights = xp.empty((self.points, self.taps), np.float32)
        column = 0
        for kernel, lattice, base in zip(self.kernels, lattices, joined.bases):
            columns = slice(column, column + lattice.dims + 1)
            column = columns.stop
            # vertices that were mixed lie in the other buffer
            side = (joined.axes + (kernel.pattern is not None)) % 2
            self.ids[:, columns] = lattice.ids + np.int32(side * joined.vertices + base)
            scale = np.float32(lattice.alpha * (kernel.weight if kernel.pattern is None else 1.0))
            after = kernel.factors[1]
            self.weights[:, columns] = lattice.weights * (scale if after is None else (after * scale)[:, None])

    def run(self, energies: Any, iterations: int, *, relax: float = 1.0,
            watch: Callable[[int, Any], bool | None] | None = None,
            measure: Callable[[float, float], bool | None] | None = None) -> tuple[Any, int]:
        """Make parallel updates from ``softmax(-energies)``.

        Parameters
        ----------
        energies : (L, N) float32 array on the device, gapless
        iterations : int
        relax : float
        watch : callable, optional
            Called with the iteration and its beliefs in rows; returning True stops.
        measure : callable, optional
            Called with divergence and energy of the beliefs before each update, and of the last ones; what
            it returned before the update stops behind it.

        Returns
        -------
        (N, width) array, int
            Beliefs in rows, the labels side by side, and the updates that were made.

        Raises
        ------
        ArgumentError
            Energies that are NaN, -inf, or +inf for all labels of a point.
        """
        xp, quads = module_of(energies), self.width // 4
        logits, beliefs = (xp.empty((self.points, self.width), np.float32) for _ in range(2))
        bad = xp.empty(self.points, np.bool_)
        launch("meanfield", "take_energies", self.points, (energies, logits, bad, self.points, self.labels, quads))
        scratch = xp.empty_like(logits) if quads > self.group else None
        self._update(logits, None, beliefs, scratch, 0, 1.0)()
        steps, vertices = [], None
        if iterations or measure is not None:
            steps, vertices = self._iteration(logits, beliefs, scratch, relax)
        self._check(energies, bad)  # waits now, so that the host may go on while the iterations run
        if watch is not None and watch(0, beliefs):
            return beliefs, 0
        done = 0
        for done in range(1, iterations + 1):
            for step in steps[:-1]:
                step()
            enough = measure is not None and measure(*self._divergence(energies, beliefs, vertices))
            steps[-1]()
            if (watch is not None and watch(done, beliefs)) or enough:
                return beliefs, done
        if measure is not None:
            for step in steps[:-1]:
                step()
            measure(*self._divergence(energies, beliefs, vertices))
        return beliefs, done

    def _divergence(self, energies: Any, beliefs: Any, vertices: Any) -> tuple[float, float]:
        """Return divergence and energy of the beliefs, whose messages are on the vertices; see `Inference`."""
        xp, count = module_of(beliefs), beliefs.size // 4
        q = self.planes(beliefs).astype(np.float64)
        some = q > 0  # at 0 energy and logarithm may be infinite
        energy = float(xp.where(some, q * xp.where(some, energies, 0), 0).sum())
        if vertices is not None:
            messages = xp.empty_like(beliefs)
            launch("lattice", "slice", count, (vertices, self.ids, self.weights, messages, count, self.width // 4,
                                               self.taps, 1.0))
            pairs = float((q * self.planes(messages)).sum())
            own = sum(float((kernel.own * (q * kernel.mix(q)).sum(axis=0)).sum()) for kernel in self.kernels)
            energy -= 0.5 * (pairs - own)
        return energy + float((q * xp.log(xp.where(some, q, 1))).sum()), energy

    def _iteration(self, logits: Any, beliefs: Any, scratch: Any,
                   relax: float) -> tuple[list[Callable[[], None]], Any]:
        """Return the launches of one update, the last of which makes it, and the vertices' rows before that."""
        if self.joined is None:
            return [self._update(logits, None, beliefs, scratch, 0, relax)], None
        steps, both = self.joined.plan(beliefs)
        final = self.joined.axes % 2
        for kernel, base in zip(self.kernels, self.joined.bases):
            matrix = kernel.matrix
            if matrix is None:
                continue
            xp = module_of(beliefs)
            padded = np.zeros((self.width, self.width), np.float32)
            padded[:self.labels, :self.labels] = matrix
            rows = slice(base, base + kernel.lattice.vertices)
            items = kernel.lattice.vertices * self.width
            steps.append(prepare("meanfield", "mix", items, (both[final, rows], xp.asarray(padded),
                                                             both[1 - final, rows], items, self.width)))
        steps.append(self._update(logits, both, beliefs, scratch, self.taps, relax))
        return steps, both

    def _update(self, logits: Any, values: Any, beliefs: Any, scratch: Any, taps: int,
                relax: float) -> Callable[[], None]:
        return prepare("meanfield", "update", self.points * self.group,
                       (logits, values, self.ids, self.weights, beliefs, scratch, self.points, self.width // 4,
                        self.group, taps, relax))

    def _check(self, energies: Any, bad: Any) -> None:
        if not bool(bad.any()):
            return
        point = int(bad.argmax())
        raise ArgumentError("unary: expected energies with no NaN and no -inf, and not +inf for every label, got "
                            f"{energies[:8, point].get().tolist()} at point {point}")

    def planes(self, rows: Any) -> Any:
        """Return beliefs as (L, N)."""
        return to_planes(rows, self.labels)

    def best(self, rows: Any) -> Any:
        """Return the most probable label of every point, the first of equals, (N,); uint8 for up to 256 labels."""
        xp = module_of(rows)
        if self.labels > 256:
            return rows[:, :self.labels].argmax(axis=1).astype(np.int32)
        labels = xp.empty(self.points, np.uint8)
        launch("meanfield", "best_labels", self.points, (rows, labels, self.points, self.labels, self.width // 4))
        return labels
