"""The weights' gradient of 3 by 3 convolutions by Winograd's transforms: F(3x3, 4x4), the transpose of `winograd`.

``dg = sum over tiles of G' ((A dy A') * (B' d B)) G``: 36 products of outputs by tiles and tiles by
channels, a quarter of the multiplications of the plain sum.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops.product import aligned, leading, padded_rows, product, row_blocks
from atrouscaffe.ops.winograd import ACROSS, GROUP_TILES, POINTS, cut_rows, tile_rows
from atrouscaffe.ops.winograd_cpu import LANES, gather_gradients, gather_tiles
from atrouscaffe.ops.winograd_gradient_cpu import pack_tiles, turn_tiles, weight_gradients
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["add_weight_gradient"]

CHANNELS = 32
"""Channels in a panel of the right operand."""
_OUTPUTS = [0, 3, 4, 3, 4, 5, 6, 7]
"""Columns of a line of tiles as `gather_gradients` takes it: what it reads are the outputs."""


def add_weight_gradient(x: np.ndarray, dy: np.ndarray, dweight: np.ndarray, windows: tuple[Window, Window]) -> None:
    """Add the gradient of the convolution's weight to `dweight`.

    Parameters
    ----------
    x : (N, C, H, W) float32, contiguous
    dy : (N, M, out_h, out_w) float32, contiguous
    dweight : (M, C, 3, 3) float32, contiguous, added to
    windows : two of Window
    """
    sums = _Sums(x, dy, windows)
    for first, last in cut_rows(sums.rows, GROUP_TILES):
        sums.add(first, last)
    flat, pieces = dweight.reshape(-1), chunks(dy.shape[1], max(1, dy.shape[1] // 16))
    parallel(lambda i: weight_gradients(sums.total, sums.ld, sums.step, *pieces[i], x.shape[1], flat), len(pieces))


class _Sums:
    """The 36 products, summed over groups of tiles."""

    def __init__(self, x: np.ndarray, dy: np.ndarray, windows: tuple[Window, Window]) -> None:
        self.x, self.dy, self.hole = x.reshape(-1), dy.reshape(-1), windows[0].hole
        self.across = self.hole >= ACROSS
        self.size, self.out = x.shape[1:], dy.shape[1:]
        self.rows = tile_rows(x.shape[0], x.shape[2:], dy.shape[2:], self.hole, (windows[0].pad, windows[1].pad))
        lines, length = self.rows[:, 12], self.rows[:, 7]
        zeros = np.zeros_like(lines)
        self.rows_out = np.column_stack([self.rows[:, _OUTPUTS], zeros, length, zeros, lines, lines])
        self.blocks = row_blocks(dy.shape[1])
        self.ld = leading(x.shape[1])
        self.step = dy.shape[1] * self.ld + LANES
        self.total = aligned("winograd weights", POINTS * self.step)
        self.empty = True

    def add(self, first: int, last: int) -> None:
        """Add the products of the tiles of some lines."""
        tiles = int(self.rows[last - 1, 6] + self.rows[last - 1, 5] - self.rows[first, 6])
        depth = -(-tiles // 8) * 8
        panels = -(-self.size[0] // CHANNELS)
        right_step, left_step = panels * CHANNELS * depth, padded_rows(self.blocks) * depth
        right, left = aligned("winograd inputs", POINTS * right_step), aligned("winograd left", POINTS * left_step)
        pieces = chunks(self.size[0], CHANNELS)
        longest = 6 * self.hole if self.across else 4 * int(self.rows[first:last, 5].max()) + 2
        line = -(-longest // 64) * 64 + 32
        ld = leading(depth)

        def inputs(i: int) -> None:
            a, b = pieces[i]
            step = CHANNELS * ld + LANES
            values = aligned("winograd products", POINTS * step)
            gather_tiles(self.x, self.size, self.rows, first, last, a, b, self.hole, self.across, values, 0, ld, step,
                         aligned("winograd lines", 6 * line))
            turn_tiles(values, ld, step, b - a, tiles, right, a * depth, right_step)

        def outputs(i: int) -> None:
            row, height, real = (int(n) for n in self.blocks[i])
            step = height * ld + LANES
            values = aligned("winograd products", POINTS * step)
            gather_gradients(self.dy, self.out, self.rows_out, first, last, row, row + real, self.hole, self.across,
                             values, 0, ld, step, aligned("winograd lines", 4 * line))
            pack_tiles(values, ld, step, real, tiles, left, row * depth, height, left_step)

        def points(i: int) -> None:
            place = (self.total, i * self.step, self.ld, 0)
            product(left[i * left_step:], self.blocks, (0, len(self.blocks)), (depth, 0, tiles, 0),
                    (right, i * right_step, CHANNELS, self.size[0], 0, depth), place,
                    base=None if self.empty else place)

        for work, count in ((inputs, len(pieces)), (outputs, len(self.blocks)), (points, POINTS)):
            parallel(work, count)
        self.empty = False
