"""Updater: the histories of a net's parameters, and one update of all of them.

Work is cut into blocks that stay in a core's cache, so that the several passes of a rule over a
block cost about one pass through memory. Parameters on a CUDA device are updated by one launch each,
and histories lie beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.net import Learnable
from atrouscaffe.runtime.backend import CpuBackend
from atrouscaffe.runtime.threads import chunks, parallel, serial_blas
from atrouscaffe.solver.spec import SolverSpec
from atrouscaffe.solver.update import HISTORIES, RULES, Step, clip_scale, make_step, regularize

__all__ = ["Updater"]

BLOCK = 1 << 16  # elements: three or four arrays of 256 KiB lie in a second-level cache


class Updater:
    """Applies a solver's update rule to the parameters of a net.

    Parameters with ``lr_mult: 0`` are left alone and their histories stay zero, whose memory is
    never touched.

    Parameters
    ----------
    learnable : sequence of Learnable
    spec : SolverSpec

    Attributes
    ----------
    histories : list of list of array
        For each parameter the arrays of its shape that the rule keeps.
    """

    def __init__(self, learnable: Sequence[Learnable], spec: SolverSpec) -> None:
        self.learnable, self.spec = list(learnable), spec
        self.histories: list[list[Any]] = [
            [entry.blob.backend.zeros(entry.blob.shape, entry.blob.dtype) for _ in range(HISTORIES[spec.type])]
            for entry in self.learnable]
        self._tasks = self._blocks(lambda entry: entry.lr_mult != 0)
        memories = [entry.blob.memory for entry in self.learnable if entry.blob.count]
        self._shares_values = len(set(memories)) < len(memories)
        self._backend = self.learnable[0].blob.backend if self.learnable else CpuBackend()

    def _blocks(self, wanted: Any) -> list[tuple[int, int, int]]:
        return [(i, a, b) for i, entry in enumerate(self.learnable) if wanted(entry)
                for a, b in chunks(entry.blob.count, BLOCK)]

    def sum_of_squares(self) -> float:
        """Return the squared norm of all gradients as they are; not finite where one of them is not."""
        if self._backend.xp is not np:
            from atrouscaffe.solver import update_cuda

            with self._backend.active():
                return update_cuda.sum_of_squares([entry.blob.grad for entry in self.learnable if entry.blob.has_grad])
        tasks = self._blocks(lambda entry: entry.blob.has_grad)
        sums = np.zeros(len(tasks))

        def work(i: int) -> None:
            index, a, b = tasks[i]
            block = self.learnable[index].blob.grad.reshape(-1)[a:b]
            with np.errstate(over="ignore", invalid="ignore"):
                sums[i] = np.dot(block, block)
            if not math.isfinite(sums[i]):  # squares of more than 1e38, or no numbers at all
                sums[i] = np.square(block, dtype=np.float64).sum()

        with serial_blas():
            parallel(work, len(tasks))
        return float(sums.sum())

    def apply(self, rate: float, iteration: int, sum_of_squares: float) -> None:
        """Clip, divide by iter_size, add the decay, compute the update, subtract it.

        Gradients become the updates, as in the original.

        Parameters
        ----------
        rate : float
            The policy's; each parameter's lr_mult is applied here.
        iteration : int
            From 0.
        sum_of_squares : float
            From `sum_of_squares`.
        """
        scale = clip_scale(sum_of_squares, self.spec.clip_gradients) / self.spec.iter_size
        steps = [make_step(self.spec, rate * entry.lr_mult, iteration) for entry in self.learnable]
        if self._backend.xp is np:
            self._apply_here(scale, steps)
        else:
            with self._backend.active():
                self._apply_on_device(scale, steps)
        self._backend.parameters_changed()

    def _apply_on_device(self, scale: float, steps: Sequence[Step]) -> None:
        from atrouscaffe.solver import update_cuda

        moving = [(entry, histories, step) for entry, histories, step in zip(self.learnable, self.histories, steps)
                  if entry.lr_mult != 0]
        for entry, histories, step in moving:
            update_cuda.update(self.spec.type, entry.blob.grad, entry.blob.array, histories, step, scale=scale,
                               decay=self.spec.weight_decay * entry.decay_mult, kind=self.spec.regularization_type,
                               subtract=not self._shares_values)
        if self._shares_values:  # the first fork's shared parameters: all updates come from the same values
            for entry, _, _ in moving:
                value = entry.blob.array.reshape(-1)
                value -= entry.blob.grad.reshape(-1)

    def _apply_here(self, scale: float, steps: Sequence[Step]) -> None:
        spec, rule = self.spec, RULES[self.spec.type]

        def work(i: int) -> None:
            index, a, b = self._tasks[i]
            entry = self.learnable[index]
            grad, value = entry.blob.grad.reshape(-1)[a:b], entry.blob.array.reshape(-1)[a:b]
            if scale != 1:
                grad *= grad.dtype.type(scale)
            regularize(grad, value, spec.weight_decay * entry.decay_mult, spec.regularization_type)
            rule(grad, [history.reshape(-1)[a:b] for history in self.histories[index]], steps[index])
            if not self._shares_values:
                value -= grad

        for index in {index for index, _, _ in self._tasks}:
            self.learnable[index].blob.grad  # noqa: B018  (allocates before threads ask)
        parallel(work, len(self._tasks))
        if self._shares_values:  # the first fork's shared parameters: all updates come from the same values
            for index, a, b in self._tasks:
                blob = self.learnable[index].blob
                blob.array.reshape(-1)[a:b] -= blob.grad.reshape(-1)[a:b]
