"""How large one pass of a net over an image is: the whole image where memory allows, else a tile."""

from __future__ import annotations

from collections.abc import Sequence

from atrouscaffe.errors import ArgumentError, BudgetError
from atrouscaffe.graph.memory import plan
from atrouscaffe.pipeline.deploy import Deploy
from atrouscaffe.pipeline.tiling import Axis

__all__ = ["PassSizes"]


class PassSizes:
    """Chooses the size of the passes over an image.

    Parameters
    ----------
    deploy : Deploy
    axes : sequence of Axis
        Along height and width.
    classes : int
        Channels of the scores.
    memory_budget : int
        Bytes for blobs, parameters and results; 0 is no limit.
    tile : int, optional
        Largest side of a tile, in pixels.
    """

    def __init__(self, deploy: Deploy, axes: Sequence[Axis], classes: int, memory_budget: int,
                 tile: int | None) -> None:
        self.deploy, self.axes, self.classes = deploy, tuple(axes), classes
        self.memory_budget, self.tile = memory_budget, tile

    def of(self, image: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the padded size of an image of (height, width), and the size of one pass over it.

        Raises
        ------
        BudgetError, ArgumentError
            More memory than allowed, whatever the tiles.
        """
        whole = (self.axes[0].fit(image[0]), self.axes[1].fit(image[1]))
        return whole, self._tile_size(whole, image)

    def _tile_size(self, whole: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
        """Choose the size of one pass: the whole image where the budget allows, else the largest tile."""
        results = 4 * self.classes * (whole[0] * whole[1] + 3 * image[0] * image[1])
        if self.memory_budget and results > self.memory_budget:
            raise BudgetError(f"the scores of {self.classes} classes for {image[1]}x{image[0]} pixels take "
                              f"{results / 1e6:,.0f} MB with copies, above the budget of "
                              f"{self.memory_budget / 1e6:,.0f} MB; scale the image down, or raise "
                              "the budget (memory_budget=, ATROUSCAFFE_MEMORY_BUDGET)")
        if whole == self.deploy.size:
            return whole
        tiles = self.deploy.shifts and not any(axis.field.everything for axis in self.axes) and not self.deploy.dims
        size = whole
        if self.tile and tiles:
            size = self._at_most(whole, self.tile)
        reason: ArgumentError | BudgetError
        try:
            if self._fits(size, results):
                return size
            reason = BudgetError(f"one pass over {size[1]}x{size[0]} pixels is above the budget of "
                                 f"{self.memory_budget / 1e6:,.0f} MB")
            while tiles and size != (smaller := self._smaller(size)):
                size = smaller
                if self._fits(size, results):
                    return size
        except ArgumentError as error:
            reason = error
            if tiles and all(axis.smallest() <= n for axis, n in zip(self.axes, self.deploy.size)):
                return self.deploy.size
        hint = "" if tiles else "; this net cannot work on tiles, since its scores depend on the whole image"
        raise type(reason)(f"image of {image[1]}x{image[0]} pixels: {reason}{hint}; scale the image down, or raise the "
                           "budget (memory_budget=, ATROUSCAFFE_MEMORY_BUDGET)")

    def _fits(self, size: tuple[int, int], results: int) -> bool:
        """Whether one pass over `size` stays in the budget."""
        need = plan(self.deploy.graph_at(size), keep=[self.deploy.score], budget=0).peak_bytes
        return not self.memory_budget or need + results <= self.memory_budget

    def _at_most(self, whole: tuple[int, int], side: int) -> tuple[int, int]:
        """Return the largest tile with sides of at most `side`, but no smaller than a tile can be."""
        sides = []
        for axis, n in zip(self.axes, whole):
            least = axis.smallest()
            sides.append(min(n, max(least, least + (side - least) // axis.step * axis.step)))
        return sides[0], sides[1]

    def _smaller(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return a tile with its longer side about a third shorter, the same where none is smaller."""
        sides = list(size)
        order = (0, 1) if size[0] >= size[1] else (1, 0)
        for i in order:
            axis = self.axes[i]
            shorter = max(axis.smallest(), size[i] - -(-(size[i] // 3) // axis.step) * axis.step)
            if shorter < size[i]:
                sides[i] = shorter
                break
        return sides[0], sides[1]

