"""Lifetimes of blobs, the peak of their memory, and an arena in which they lie.

The plan is made from shapes alone, before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from atrouscaffe.errors import BudgetError
from atrouscaffe.graph.graph import Graph
from atrouscaffe.graph.share import Shared
from atrouscaffe.runtime.budget import default_budget

__all__ = ["MemoryPlan", "plan"]

ALIGN = 64  # bytes: a cache line, and an AVX-512 register


@dataclass(frozen=True)
class MemoryPlan:
    """Where each storage of a graph lies.

    Attributes
    ----------
    offsets : dict of int to int
        Storage number → byte offset in the arena, for storages that are dropped after their last
        reader. Others have memory of their own.
    arena_bytes : int
    kept_bytes : int
        Bytes of the storages that are kept.
    parameter_bytes : int
    shared : Shared or None
        Which storages lie in others.
    """

    offsets: dict[int, int]
    arena_bytes: int
    kept_bytes: int
    parameter_bytes: int
    shared: Shared | None = None

    @property
    def activation_bytes(self) -> int:
        """Bytes that activations take at most at one time."""
        return self.arena_bytes + self.kept_bytes

    @property
    def peak_bytes(self) -> int:
        """Activations and parameters together."""
        return self.activation_bytes + self.parameter_bytes


def plan(graph: Graph, *, keep: Iterable[str] | None = None, gradients: bool = False, itemsize: int = 4,
         budget: int | None = None, share: bool = False) -> MemoryPlan:
    """Plan the memory of a graph's blobs.

    Parameters
    ----------
    graph : Graph
    keep : iterable of str or None
        Blobs to keep beside the net's inputs and outputs; None keeps every blob.
    gradients : bool
        Count a gradient for each value and parameter that backward touches.
    itemsize : int
        Bytes of one number.
    budget : int, optional
        Bytes; 0 is no limit, None is `default_budget`.
    share : bool
        Let storages be one piece of memory where they can (`atrouscaffe.graph.share`).

    Raises
    ------
    BudgetError
        The peak is above the budget; nothing was allocated.
    """
    sizes: dict[int, int] = {}
    lives: dict[int, list[int]] = {}
    kept_names = None if keep is None else set(keep) | set(graph.inputs) | set(graph.outputs)
    kept: set[int] = set()
    for value in graph.values:
        nbytes = math.prod(value.shape) * itemsize
        sizes[value.storage] = max(sizes.get(value.storage, 0), nbytes)
        last = max([value.producer[0], *(node for node, _ in value.readers)])
        life = lives.setdefault(value.storage, [value.producer[0], last])
        life[1] = max(life[1], last)
        constant = graph.nodes[value.producer[0]].spec.type == "DummyData"  # written once, or by the caller
        if kept_names is None or value.name in kept_names or constant:
            kept.add(value.storage)
    parameter_bytes = graph.parameter_count() * itemsize
    kept_bytes = sum(sizes[storage] for storage in kept)
    if gradients:
        touched = {graph.values[value].storage for node in graph.nodes if node.backward
                   for value, wanted in zip(node.bottoms, node.propagate) if wanted}
        kept_bytes += sum(sizes[storage] for storage in touched)
        parameter_bytes += sum(math.prod(blueprint.shape) * itemsize for node in graph.nodes
                               for blueprint, wanted in zip(node.blueprints, node.param_propagate) if wanted)
    shared = Shared(graph, sizes.keys() - kept) if share else None
    dropped = {storage: (storage, 0) if shared is None else shared.place(storage) for storage in sizes
               if storage not in kept}
    for storage, (root, _) in dropped.items():
        lives[root] = [min(lives[root][0], lives[storage][0]), max(lives[root][1], lives[storage][1])]
    roots, arena = _place({root: sizes[root] for root, _ in dropped.values()}, lives)
    offsets = {storage: roots[root] + at * itemsize for storage, (root, at) in dropped.items()}
    result = MemoryPlan(offsets, arena, kept_bytes, parameter_bytes, shared)
    limit = default_budget() if budget is None else budget
    if limit and result.peak_bytes > limit:
        largest = max(graph.values, key=lambda value: math.prod(value.shape))
        raise BudgetError(
            f"this net needs {result.peak_bytes / 1e6:,.0f} MB ({result.activation_bytes / 1e6:,.0f} MB of blobs, "
            f"{result.parameter_bytes / 1e6:,.0f} MB of parameters), above the budget of {limit / 1e6:,.0f} MB; the "
            f"largest blob is {largest.name!r} {largest.shape}; use a smaller input or batch, keep fewer blobs "
            "(keep=[...]), or raise the budget (memory_budget=, ATROUSCAFFE_MEMORY_BUDGET)", graph.net.path)
    return result


def _place(sizes: dict[int, int], lives: dict[int, list[int]]) -> tuple[dict[int, int], int]:
    """Give each storage an offset so that none overlaps another alive at the same time: largest first, lowest gap."""
    offsets: dict[int, int] = {}
    alive: dict[int, list[int]] = {}  # node -> storages placed so far that live there
    arena = 0
    for storage in sorted(sizes, key=lambda s: (-sizes[s], s)):
        need = _aligned(sizes[storage])
        nodes = range(lives[storage][0], lives[storage][1] + 1)
        neighbours = {other for node in nodes for other in alive.get(node, ())}
        offset = 0
        for begin, end in sorted((offsets[other], offsets[other] + _aligned(sizes[other])) for other in neighbours):
            if offset + need <= begin:
                break
            offset = max(offset, end)
        offsets[storage] = offset
        arena = max(arena, offset + need)
        for node in nodes:
            alive.setdefault(node, []).append(storage)
    return offsets, arena


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN
