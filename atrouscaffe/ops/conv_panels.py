"""Convolutions by the matrix kernel: holes are sampled from the image into the right operand, tile by tile.

Columns never exist as a whole: some pixels by `DEPTH` rows of the column matrix lie in scratch memory that fits the
second-level cache, and are multiplied by the packed weights at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops.finish import Finish
from atrouscaffe.ops.im2col import geo_of, is_pointwise, taps_of
from atrouscaffe.ops.im2col_cpu import sample_holes, sample_pixels
from atrouscaffe.ops.keep import Keep, make_anew
from atrouscaffe.ops.product import DEPTH, aligned, leading, padded_rows, product, row_blocks
from atrouscaffe.ops.product_cpu import WIDTH, pack_rows
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["forward", "packed"]

TILE = 3 * 2**15
"""Numbers of sampled holes at a time: 384 KB, which the second-level cache holds beside the weights."""
MOST_PIXELS = 1024
STEP = 32
TASKS = 8
SMALL_WORK = 2**21
"""Multiply-adds that are worth a task of their own."""
TALL_BLOCKS = 9
"""Blocks of outputs, some 128 of them, that are worth sampling the holes for once more."""


def packed(weight: np.ndarray, group: int) -> np.ndarray:
    """Return the weights (M, C/group, \\*kernel) packed by group, rows k in the order (tap, channel).

    Returns
    -------
    (group, size) float32
    """
    per_out, per_in = weight.shape[0] // group, weight.shape[1]
    blocks = row_blocks(per_out)
    taps_first = np.ascontiguousarray(weight.reshape(group, per_out, per_in, -1).swapaxes(2, 3))
    depth = taps_first.shape[2] * per_in
    panels = np.empty((group, padded_rows(blocks) * depth), np.float32)
    for g in range(group):
        pack_rows(taps_first[g].reshape(-1), depth, 1, blocks, panels[g])
    return panels


def _cuts(pixels: int, depth: int, others: int, work: int,
          blocks: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cut pixels into tiles, and where those are few the blocks of outputs too."""
    wanted = max(1, min(TASKS, work // SMALL_WORK))
    count = -(-pixels // min(MOST_PIXELS, TILE // min(depth, DEPTH)))
    split = max(1, min(-(-wanted // (others * count)), blocks // TALL_BLOCKS))
    if split == 1:  # few outputs: sampling holes once for each part of them would cost too much
        count = max(count, min(-(-wanted // others), -(-pixels // (4 * STEP))))
    tile = -(-pixels // (count * STEP)) * STEP if count > 1 else pixels
    return chunks(pixels, tile), chunks(blocks, -(-blocks // split))


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, windows: Sequence[Window],
            group: int, finish: Finish, keep: Keep = make_anew) -> None:
    """Write ``y = conv(x, weight) + bias``, finished.

    Parameters
    ----------
    x : (N, C, H, W) float32, contiguous
    weight : (M, C/group, kernel_h, kernel_w) float32
    bias : (M,) float32 or None
    y : (N, M, out_h, out_w) float32, contiguous, written
    windows : two of Window
    group : int
    finish : Finish
    keep : Keep
        Holds the packed weights.
    """
    panels = keep(("panels", group), lambda: packed(weight, group))
    images, per_in, per_out = x.shape[0], x.shape[1] // group, y.shape[1] // group
    height, width, out_w, pixels = x.shape[2], x.shape[3], y.shape[3], y.shape[2] * y.shape[3]
    geo, depth, blocks = geo_of(windows), per_in * taps_of(windows), row_blocks(per_out)
    pointwise = is_pointwise(windows)
    tiles, runs = _cuts(pixels, depth, images * group, images * group * per_out * depth * pixels, len(blocks))
    source, target, shift = x.reshape(-1), y.reshape(-1), np.zeros(y.shape[1], np.float32) if bias is None else bias
    slope, base = finish.slopes(y.shape[1]), None if finish.base is None else finish.base.reshape(-1)
    tasks = [(n, g, tile, run) for n in range(images) for g in range(group) for tile in tiles for run in runs]
    room = padded_rows(blocks)

    def work(i: int) -> None:
        n, g, (p, q), run = tasks[i]
        outputs = slice(g * per_out, (g + 1) * per_out)
        at = (n * y.shape[1] + g * per_out) * pixels + p
        ld = max(leading(q - p), -(-(q - p) // WIDTH) * WIDTH)
        columns = aligned("holes", min(depth, DEPTH) * ld + WIDTH)
        start = (n * x.shape[1] + g * per_in) * height * width
        pad = np.zeros(room - per_out, np.float32)
        rows = (np.concatenate((shift[outputs], pad)), np.concatenate((slope[outputs], pad)))
        for a, b in chunks(depth, DEPTH):
            if pointwise:
                sample_pixels(source, start, pixels, a, b, p, q - p, WIDTH, columns)
                right = (columns, 0, WIDTH, q - p, 0, b - a)
            else:
                sample_holes(source, start, (per_in, height, width), a, b, p, q - p, out_w, geo, columns, ld)
                right = (columns, 0, ld, q - p, 0, 1)
            under = None if base is None else (base, at, pixels, 0)
            product(panels[g], blocks, run, (depth, a, b, 0), right, (target, at, pixels, 0),
                    under if a == 0 else (target, at, pixels, 0), *rows,
                    act=-1 if b < depth else finish.act, cap=finish.cap)

    parallel(work, len(tasks))
