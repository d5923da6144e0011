"""Convolutions of 3 by 3 taps at stride 1 by Winograd's F(4x4, 3x3): a quarter of the multiplications.

A tile of 4 by 4 outputs takes 36 products instead of 144. The tiles' values at the 36 points form
36 right operands (channels by tiles), the weights 36 left ones, so that nearly all work is in the
matrix kernel; the transforms are in `winograd_cpu`. A convolution with hole d is d*d ordinary ones, on
the sub-grids of every d-th pixel.

Two ways through the work, chosen by shape: *strips* of tiles, each taken from inputs to outputs by one
task while its values stay in the second-level cache; and, where the transformed weights are larger than a
cache, *groups* of more tiles whose inputs are transformed together, so that the weights stream past fewer times.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops.finish import Finish
from atrouscaffe.ops.keep import Keep, make_anew
from atrouscaffe.ops.product import DEPTH, aligned, leading, padded_rows, product, row_blocks
from atrouscaffe.ops.winograd_cpu import LANES, gather_tiles, spread_tiles, transform_weights
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["counted", "cut_rows", "fits", "forward", "tile_rows", "transformed"]

ACROSS = 8
"""From this hole on, sub-grids lie side by side in the vectors instead of tiles."""
POINTS = 36
STRIP_TILES = 160
GROUP_TILES = 256
STREAMED_BYTES = 2**23
"""Transformed weights above this size are read once a group, not once a strip."""
FEW_TILES = 192
"""Below this many tiles transforming the weights costs enough to keep the result, four times as large as they are."""
STRIP_OUTPUTS, GROUP_OUTPUTS = 512, 128
"""Outputs whose products are transformed back at a time; those of a group are what is done side by side."""


def fits(weight: Any, windows: Any, group: int) -> bool:
    """Whether a convolution has 3 by 3 taps at stride 1, one hole for both axes, and one group of channels."""
    h, w = windows
    return (group == 1 and weight.dtype == np.float32 and h.kernel == w.kernel == 3 and h.stride == w.stride == 1
            and h.hole == w.hole)


@functools.lru_cache(256)
def tile_rows(images: int, size: tuple[int, int], out: tuple[int, int], hole: int, pads: tuple[int, int]) -> np.ndarray:
    """List the lines of tiles of a convolution as `winograd_cpu` takes them.

    Parameters
    ----------
    images : int
    size, out : (int, int)
        Height and width of an image and of its output.
    hole : int
    pads : (int, int)
        Above and on the left.

    Returns
    -------
    (R, 13) int64 array
    """
    found, first, across = [], 0, hole >= ACROSS
    for n in range(images):
        for sy in range(min(hole, out[0])):
            lines = -(-(out[0] - sy) // hole)
            for sx in (0,) if across else range(min(hole, out[1])):
                length = -(-(out[1] - sx) // hole)
                for u in range(0, lines, 4):
                    y = sy - pads[0] + hole * u
                    top, bottom = _inside(y, hole, 6, size[0])
                    for t in range(0, length, 4) if across else (0,):
                        x = sx - pads[1] + hole * t
                        if across:
                            tiles, outputs = min(hole, out[1] - hole * t), min(4 * hole, out[1] - hole * t)
                            low, high = _inside(x, 1, 6 * hole, size[1])
                        else:
                            tiles, outputs = -(-length // 4), length
                            low, high = _inside(x, hole, 4 * tiles + 2, size[1])
                        found.append((n, y, x, sy + hole * u, sx + hole * t, tiles, first, outputs, low, high, top,
                                      bottom, min(4, lines - u)))
                        first += tiles
    return np.array(found, np.int64)


@functools.lru_cache(256)
def counted(out: tuple[int, int, int, int], hole: int) -> tuple[int, int]:
    """Return how many tiles an output (N, M, height, width) takes, and how many vectors of 16 they lie in."""
    rows = tile_rows(out[0], (out[2] + 2 * hole, out[3] + 2 * hole), (out[2], out[3]), hole, (0, 0))
    return int(rows[:, 5].sum()), int((-(-rows[:, 5] // LANES)).sum())


def _inside(start: int, step: int, count: int, size: int) -> tuple[int, int]:
    """Return which of `count` places from `start` on lie in [0, size)."""
    low = min(count, max(0, -(start // step)))
    return low, max(low, min(count, -(-(size - start) // step)))


def cut_rows(rows: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Cut lines of tiles into runs of about `most` tiles, an even number of runs where there are several."""
    ends = rows[:, 5] + rows[:, 6]
    count = max(1, -(-int(ends[-1]) // most))
    count += count % 2 if count > 1 else 0
    wanted = [int(np.searchsorted(ends, ends[-1] * (i + 1) / count)) + 1 for i in range(count)]
    cuts = sorted({0, *(min(n, len(ends)) for n in wanted)})
    return list(itertools.pairwise(cuts))


def _owned(slot: str, size: int) -> np.ndarray:
    return np.empty(size, np.float32)


def transformed(weight: np.ndarray, turned: bool,
                room: Callable[[str, int], np.ndarray] = _owned) -> tuple[np.ndarray, int]:
    """Return the weights at the 36 points, packed, and the distance from one point's panels to the next one's.

    Parameters
    ----------
    weight : (M, C, 3, 3) float32
    turned : bool
        For the data gradient: outputs and channels exchanged, taps backwards.
    room : callable of slot and size
        Returns memory for the result.
    """
    outputs, channels = weight.shape[:2]
    steps = (9 * channels, 9)
    if turned:
        steps, outputs, channels = (9, 9 * channels), channels, outputs
    blocks = row_blocks(outputs)
    stride = padded_rows(blocks) * channels + LANES
    panels = room("winograd weights", POINTS * stride)
    flat, pieces = weight.reshape(-1), chunks(len(blocks), max(1, len(blocks) // 8))
    parallel(lambda i: transform_weights(flat, steps, turned, channels, blocks, *pieces[i], panels, stride),
             len(pieces))
    return panels, stride


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, windows: tuple[Window, Window],
            finish: Finish, keep: Keep = make_anew, turned: bool = False) -> None:
    """Write ``y = conv(x, weight) + bias``, finished.

    Parameters
    ----------
    x : (N, C, H, W) float32, contiguous
    weight : (M, C, 3, 3) float32, or with `turned` (C, M, 3, 3)
    bias : (M,) float32 or None
    y : (N, M, out_h, out_w) float32, contiguous, written
    windows : two of Window
    finish : Finish
        Without a base.
    keep : Keep
        Holds the transformed weights.
    turned : bool
        Convolve as the data gradient does: y is the gradient of the input, x that of the output, `windows` those of
        the adjoint.
    """
    if keep is make_anew or counted(y.shape, windows[0].hole)[0] >= FEW_TILES:  # then they are this thread's for now
        panels, stride = transformed(weight, turned, aligned)
    else:
        panels, stride = keep(("winograd", turned), lambda: transformed(weight, turned, _owned))
    task = _Task(x, y, windows, panels, stride, bias, finish)
    if 4 * panels.size > STREAMED_BYTES:
        task.by_groups()
    else:
        task.by_strips()


class _Task:
    """One convolution: what all its parts need."""

    def __init__(self, x: np.ndarray, y: np.ndarray, windows: tuple[Window, Window], panels: np.ndarray, stride: int,
                 bias: np.ndarray | None, finish: Finish) -> None:
        self.x, self.y, self.panels, self.stride = x.reshape(-1), y.reshape(-1), panels, stride
        self.hole = windows[0].hole
        self.across = self.hole >= ACROSS
        self.size, self.out = x.shape[1:], y.shape[1:]
        self.rows = tile_rows(x.shape[0], x.shape[2:], y.shape[2:], self.hole, (windows[0].pad, windows[1].pad))
        self.blocks = row_blocks(y.shape[1])
        self.whole = self.blocks.copy()  # products go to scratch memory that has room for the padding
        self.whole[:, 2] = self.whole[:, 1]
        self.bias = np.zeros(y.shape[1], np.float32) if bias is None else bias
        self.finish, self.slope = finish, finish.slopes(y.shape[1])

    def by_strips(self) -> None:
        """Take each strip from inputs to outputs in one task."""
        strips = cut_rows(self.rows, STRIP_TILES)

        def work(i: int) -> None:
            first, last = strips[i]
            tiles, ld, step = self._room(first, last)
            values = aligned("winograd inputs", POINTS * step)
            self._gather(values, ld, step, first, last, 0, self.size[0])
            for a, b in self._outputs(STRIP_OUTPUTS):
                self._outputs_of(values, ld, step, tiles, first, last, a, b)

        parallel(work, len(strips))

    def by_groups(self) -> None:
        """Transform the inputs of many tiles side by side, then go through blocks of outputs side by side."""
        for first, last in cut_rows(self.rows, GROUP_TILES):
            tiles, ld, step = self._room(first, last)
            values = aligned("winograd inputs", POINTS * step)
            channels = chunks(self.size[0], max(1, -(-self.size[0] // 16)))
            parallel(lambda i, first=first, last=last, values=values, ld=ld, step=step, channels=channels: self._gather(
                values, ld, step, first, last, *channels[i]), len(channels))
            outputs = self._outputs(GROUP_OUTPUTS)
            parallel(lambda i, first=first, last=last, values=values, ld=ld, step=step, tiles=tiles, outputs=outputs:
                     self._outputs_of(values, ld, step, tiles, first, last, *outputs[i]), len(outputs))

    def _room(self, first: int, last: int) -> tuple[int, int, int]:
        """Return tiles of a strip, length of a row of values, and values of a point."""
        tiles = int(self.rows[last - 1, 6] + self.rows[last - 1, 5] - self.rows[first, 6])
        ld = leading(tiles)
        return tiles, ld, self.size[0] * ld + LANES

    def _outputs(self, rows: int) -> list[tuple[int, int]]:
        """Cut the outputs' blocks into runs of about `rows` rows, an even number of runs."""
        total = padded_rows(self.blocks)
        count = max(1, -(-total // rows))
        count += count % 2 if count > 1 else 0
        return chunks(len(self.blocks), -(-len(self.blocks) // count))

    def _gather(self, values: np.ndarray, ld: int, step: int, first: int, last: int, c0: int, c1: int) -> None:
        longest = 6 * self.hole if self.across else 4 * int(self.rows[first:last, 5].max()) + 2
        lines = aligned("winograd lines", 6 * (-(-longest // 64) * 64 + 32))
        gather_tiles(self.x, self.size, self.rows, first, last, c0, c1, self.hole, self.across, values, c0 * ld, ld,
                     step, lines)

    def _outputs_of(self, values: np.ndarray, ld: int, step: int, tiles: int, first: int, last: int, a: int,
                    b: int) -> None:
        """Multiply and transform back the outputs of blocks [a, b)."""
        row0 = int(self.blocks[a, 0])
        row1 = int(self.blocks[b - 1, 0] + self.blocks[b - 1, 2])
        height = int(self.blocks[b - 1, 0] + self.blocks[b - 1, 1]) - row0
        apart = height * ld + LANES
        sums = aligned("winograd products", POINTS * apart)
        columns = -(-tiles // LANES) * LANES
        depth = self.size[0]
        pieces = -(-depth // (DEPTH + DEPTH // 2))
        for k0, k1 in chunks(depth, -(-depth // pieces)):
            place = (sums, -row0 * ld, ld, apart)
            product(self.panels, self.whole, (a, b), (depth, k0, k1, self.stride),
                    (values, k0 * ld, ld, columns, step, 1), place, base=place if k0 else None, points=POINTS)
        lines = aligned("winograd outputs", 4 * (max(64, 4 * self.hole) + 32))
        spread_tiles(sums, 0, ld, apart, row0, row1, self.rows, first, last, self.hole, self.across, self.y, self.out,
                     self.bias, self.slope, np.float32(self.finish.cap), self.finish.act, lines)
