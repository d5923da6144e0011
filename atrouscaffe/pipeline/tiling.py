"""How an image is laid under a net that is smaller than it: sizes that fit, and tiles that overlap.

One axis at a time. A layer of the nets meant here computes a pixel of its top from a window of its
bottom, so a pass over a part of the image gives the same scores as a pass over all of it, except
near the cuts, as far as the receptive field reaches. Tiles therefore overlap by it (the halo), and
begin where the whole net's grid has a point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from atrouscaffe.graph.report import Field

__all__ = ["Axis", "Tile"]


@dataclass(frozen=True)
class Tile:
    """A part of one axis.

    Attributes
    ----------
    start : int
        First pixel of the image in this tile.
    first, last : int
        Scores that are taken from it, in the whole image's count, `last` not included.
    offset : int
        Place of `first` among the tile's own scores.
    """

    start: int
    first: int
    last: int
    offset: int


@dataclass(frozen=True)
class Axis:
    """Sizes along one axis of a net.

    Attributes
    ----------
    size : int
        Pixels that the net was written for.
    step : int
        Shift of the image by which every layer shifts whole pixels.
    field : Field
        What one score sees.
    """

    size: int
    step: int
    field: Field

    def fit(self, n: int) -> int:
        """Return the smallest size that the net's grid ends on and that holds `n` pixels.

        Sizes are the written one and what differs from it by a multiple of `step`; smaller images
        are padded to the written one.
        """
        return self.size if n <= self.size else self.size + -(-(n - self.size) // self.step) * self.step

    @property
    def margin(self) -> int:
        """Pixels added to the receptive field: a resampled score may read one coarse pixel further."""
        return 2 * self.step

    def _valid(self, tile: int) -> tuple[int, int]:
        """Return the first and last score of a tile that no cut reaches."""
        first = math.ceil((self.margin - self.field.begin) / self.field.step)
        last = math.floor((tile - self.field.end - self.margin) / self.field.step)
        return first, last

    def smallest(self) -> int:
        """Return the smallest tile with scores of its own on the net's grid."""
        tile = self.size % self.step or self.step
        while self._advance(tile) < self.step:
            tile += self.step
        return tile

    def _advance(self, tile: int) -> int:
        """Return how far one tile may begin behind another."""
        first, last = self._valid(tile)
        return math.floor((last - first + 1) * self.field.step / self.step) * self.step

    def tiles(self, whole: int, tile: int, scores: int) -> list[Tile]:
        """Cut an axis into tiles.

        Parameters
        ----------
        whole, tile : int
            Pixels of the padded image and of a tile; they differ by a multiple of `step`.
        scores : int
            Scores of a pass over the whole axis.

        Returns
        -------
        list of Tile
            Their scores follow one another from 0 to `scores`.
        """
        if tile >= whole:
            return [Tile(0, 0, scores, 0)]
        last_valid, advance = self._valid(tile)[1], self._advance(tile)
        tiles, start, begin = [], 0, 0
        while True:
            shift = int(Fraction(start) / self.field.step)
            end = scores if start + tile >= whole else shift + last_valid + 1
            tiles.append(Tile(start, begin, end, begin - shift))
            if end == scores:
                return tiles
            begin, start = end, min(start + advance, whole - tile)
