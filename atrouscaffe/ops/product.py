"""Packed operands of the matrix kernel (`product_cpu`) on the CPU, float32.

The left operand, a layer's weights, is packed once and kept until the weights change; the right one is
sampled into scratch memory tile by tile, just before it is multiplied.
"""

from __future__ import annotations

import functools

import numpy as np

from atrouscaffe.ops.product_cpu import LANES, ROWS, WIDTH, multiply
from atrouscaffe.ops.workspace import scratch

__all__ = ["DEPTH", "aligned", "leading", "padded_rows", "product", "row_blocks"]

DEPTH = 256
"""k that a block of registers goes through at a time: its rows of A stay in the first-level cache."""

@functools.lru_cache(256)
def row_blocks(rows: int) -> np.ndarray:
    """Cut the rows of the left operand into blocks of registers.

    Low blocks use the processor less well; so the cheapest set of blocks is taken, the tallest first.

    Returns
    -------
    (B, 3) int64 array
        First row, rows of the block, rows of the matrix in it.
    """
    cost = {height: height + 1.5 for height in ROWS}
    tall = max(0, rows // ROWS[0] - 2)
    rest = rows - tall * ROWS[0]
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, rest + 1):
        best.append(min((best[max(0, n - height)][0] + cost[height], (*best[max(0, n - height)][1], height))
                        for height in ROWS))
    heights = [ROWS[0]] * tall + sorted(best[rest][1], reverse=True)
    found, row = [], 0
    for height in heights:
        found.append((row, height, min(height, rows - row)))
        row += height
    return np.array(found, np.int64).reshape(-1, 3)


def padded_rows(blocks: np.ndarray) -> int:
    """Return the number of rows of all blocks together."""
    return int(blocks[-1, 0] + blocks[-1, 1])


def leading(columns: int) -> int:
    """Return a row length, in numbers, for `columns`: an odd number of cache lines, so that rows spread over the cache.

    A vector that begins at the last column still ends inside the row.
    """
    lines = -(-(columns + LANES - 1) // LANES)
    return (lines + 1 - lines % 2) * LANES


def aligned(slot: str, size: int) -> np.ndarray:
    """Return `size` float32 of this thread's scratch memory that begin at a cache line."""
    buffer = scratch(slot, (size + LANES,), np.float32)
    skip = (-buffer.__array_interface__["data"][0] // 4) % LANES
    return buffer[skip : skip + size]


_NONE = np.zeros(1, np.float32)


def product(panels: np.ndarray, blocks: np.ndarray, span: tuple[int, int], depth: tuple[int, int, int, int],
            right: tuple[np.ndarray, int, int, int, int, int], out: tuple[np.ndarray, int, int, int],
            base: tuple[np.ndarray, int, int, int] | None = None, bias: np.ndarray = _NONE, slope: np.ndarray = _NONE,
            act: int = -1, cap: float = float("inf"), points: int = 1) -> None:
    """Multiply packed panels by rows of a right operand; see `atrouscaffe.ops.product_cpu.multiply`.

    Parameters
    ----------
    panels : float32 array, flat
    blocks : (B, 3) int64
    span : (first, last)
        Blocks.
    depth : (k of a panel, first k, last k, numbers from one product's panels to the next one's)
    right : (array, place of its first row, from row to row, columns, from product to product, from column to column)
    out : (array, place of row 0, from row to row, from product to product)
    base : like `out`, or None
        What is added.
    bias, slope : float32 arrays
    act : int
        -1: sums alone; 0: bias; 1: bias and activation.
    cap : float
    points : int
        Products.
    """
    edge = scratch("edge", (ROWS[0] * WIDTH,), np.float32)
    b, *b_place = right
    c, *c_place = out
    other, *base_place = out if base is None else base
    multiply(blocks, span, panels, depth, b, tuple(b_place), c, tuple(c_place), other, (*base_place, base is not None),
             bias, slope, act, np.float32(cap), edge, points)
