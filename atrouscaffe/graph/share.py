"""Which storages of a net that keeps few blobs can be one piece of memory.

A layer that may work in place does so where nobody reads its bottom afterwards; tops that hold their bottom's values
are the bottom; and what a Concat joins along the outermost axis is written into its place at once.
"""

from __future__ import annotations

from collections.abc import Collection

from atrouscaffe.graph.graph import Graph, Node
from atrouscaffe.layers.tail import SUM

__all__ = ["Shared"]


class Shared:
    """Pieces of memory, and where in them each storage lies.

    Parameters
    ----------
    graph : Graph
        With the shapes of its values.
    dropped : collection of int
        Storages that nobody outside the net looks at; others are not shared.
    """

    def __init__(self, graph: Graph, dropped: Collection[int]) -> None:
        self._values, self._dropped = graph.values, dropped
        self._placed: dict[int, tuple[bool, ...]] = {}
        self._within: dict[int, tuple[int, int]] = {}
        self._members: dict[int, list[int]] = {}
        for v, value in enumerate(graph.values):
            self._members.setdefault(value.storage, []).append(v)
        for node in graph.nodes:
            self._work_in_place(graph, node)
        for node in graph.nodes:
            self._pass_on(node)
        for node in graph.nodes:
            self._join(node)

    def place(self, storage: int) -> tuple[int, int]:
        """Return (the storage that has memory of its own, elements from its begin)."""
        offset = 0
        while storage in self._within:
            storage, more = self._within[storage]
            offset += more
        return storage, offset

    def placed(self, node: Node) -> tuple[bool, ...]:
        """Say of each bottom whether its values already lie where the layer would copy them."""
        if node.index not in self._placed:
            self._placed[node.index] = self._find_placed(node)
        return self._placed[node.index]

    def _find_placed(self, node: Node) -> tuple[bool, ...]:
        if not node.tops or not node.bottoms:
            return ()
        ends = [self.place(self._values[v].storage) for v in node.bottoms]
        tops = [self.place(self._values[v].storage) for v in node.tops]
        if node.layer.same_values:
            return (all(top == ends[0] for top in tops),)
        offsets = node.layer.parts([self._values[v].shape for v in node.bottoms])
        return tuple(end == (tops[0][0], tops[0][1] + offset) for end, offset in zip(ends, offsets))

    def _free(self, *values: int) -> bool:
        return all(self._values[v].storage in self._dropped for v in values)

    def _root(self, value: int) -> int:
        """Return the storage that stands for all that begin where this value does."""
        storage = self._values[value].storage
        while storage not in self._members:
            storage = self._within[storage][0]
        return storage

    def _last(self, root: int) -> int:
        """Return the last node that reads what begins here."""
        return max((n for v in self._members[root] for n, _ in self._values[v].readers), default=-1)

    def _merge(self, root: int, into: int) -> None:
        self._within[root] = into, 0
        self._members[into] += self._members.pop(root)

    def _work_in_place(self, graph: Graph, node: Node) -> None:
        """Let a layer write over a bottom that nobody reads afterwards."""
        if len(node.tops) != 1 or not node.bottoms or len(set(node.bottoms)) != len(node.bottoms):
            return
        if node.spec.type == "Python":  # its code may read a bottom after it wrote the top
            return
        if node.layer.in_place:
            bottom = node.bottoms[0]
        elif node.layer.kind([self._values[v].shape for v in node.bottoms]) == SUM:
            bottom = max(node.bottoms, key=lambda v: self._values[v].producer)
        else:
            return
        if self._free(bottom, node.tops[0]):
            mine, theirs = self._root(node.tops[0]), self._root(bottom)
            if mine != theirs and self._last(theirs) <= node.index:
                self._merge(mine, theirs)

    def _pass_on(self, node: Node) -> None:
        """Let tops that hold the bottom's values be the bottom, unless one is written over while another is read."""
        if not node.layer.same_values or not self._free(node.bottoms[0], *node.tops):
            return
        theirs, tops = self._root(node.bottoms[0]), {self._root(top) for top in node.tops}
        writers = {self._values[v].producer[0] for root in (theirs, *tops) for v in self._members[root]}
        alone = len(tops) == 1 and self._last(theirs) <= node.index
        if alone or max(writers) <= node.index:
            for root in tops - {theirs}:
                self._merge(root, theirs)

    def _join(self, node: Node) -> None:
        """Let what is joined be written into its place, where nobody reads it afterwards."""
        offsets = node.layer.parts([self._values[v].shape for v in node.bottoms])
        for bottom, offset in zip(node.bottoms, offsets):
            root, top = self._root(bottom), self._root(node.tops[0])
            if self._free(bottom, node.tops[0]) and root not in self._within and root != top \
                    and self._last(root) <= node.index and self.place(top)[0] != root:
                self._within[root] = top, offset
