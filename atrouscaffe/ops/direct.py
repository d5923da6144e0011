"""Convolutions without a copy for each tap: few channels, the first layer, depthwise.

Chosen where a matrix product would spend its time on copying its operand. Work is cut into strips of output rows, or
into runs of groups of channels; see `direct_cpu` for the kernel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops.conv_panels import packed
from atrouscaffe.ops.direct_cpu import ALONE, NARROW, convolve
from atrouscaffe.ops.finish import Finish
from atrouscaffe.ops.im2col import Geo, geo_of, is_direct, is_pointwise
from atrouscaffe.ops.keep import Keep, make_anew
from atrouscaffe.ops.product import aligned, padded_rows, row_blocks
from atrouscaffe.ops.product_cpu import ROWS, WIDTH
from atrouscaffe.ops.workspace import scratch
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["MOST_ROOM", "ROOM", "SMALL_WORK", "TASKS", "ZEROS", "cost", "forward", "row_numbers"]

ROOM = 2**17
"""Numbers that the rows of one task may take: half a megabyte."""
MOST_ROOM = 4 * ROOM
MOST_PLANES = 96
"""Channels that are read where they are; more would push one another out of the caches."""
RUN = 512
"""Pixels of a row where rows follow one another."""
TASKS = 8
SMALL_WORK = 2**20
"""Multiply-adds that are worth a task of their own."""
ZEROS = np.zeros(ALONE, np.float32)


@dataclass(frozen=True)
class Plan:
    """What follows from the shapes of a convolution; the words are those of `direct_cpu.convolve`."""

    blocks: np.ndarray
    offsets: np.ndarray
    shape: tuple[int, ...]
    geo: Geo
    room_shape: tuple[int, int, int]
    room: int
    tasks: list[tuple[int, int, int, int, int]]


@functools.lru_cache(512)
def plan(x: tuple[int, ...], y: tuple[int, ...], windows: tuple[Window, Window], group: int, alone: bool) -> Plan:
    """Return how a convolution from shape `x` to shape `y` is done.

    Parameters
    ----------
    x, y : (N, channels, height, width)
    windows : two of Window
    group : int
    alone : bool
        In blocks of one output, for groups of few channels.
    """
    images, channels, height, width = x
    outputs, out_h, out_w = y[1:]
    per_in, per_out, pixels = channels // group, outputs // group, out_h * out_w
    blocks = np.array([(m, 1, 1) for m in range(per_out)], np.int64) if alone else row_blocks(per_out)
    geo = kernel_h, kernel_w, stride_h, stride_w, _, pad_w, hole_h, hole_w = geo_of(windows)
    wanted = max(1, min(TASKS, y[0] * outputs * pixels * per_in * kernel_h * kernel_w // SMALL_WORK))
    if is_pointwise(windows) and pixels >= NARROW:  # pixels follow one another: read where they are
        height, width, out_w = 1, pixels, min(pixels, RUN)
        out_h = pixels // out_w + (pixels % out_w >= NARROW)
        rows, run, left, size = 0, 0, 0, 0
        offsets = np.arange(per_in) * pixels
        step = max(1, out_h // max(1, wanted // (images * group)))
    else:
        reach_h, reach_w = (kernel_h - 1) * hole_h, (kernel_w - 1) * hole_w
        left = -(-pad_w // NARROW) * NARROW if stride_w == 1 else pad_w  # pixels begin at a cache line
        run = max(-(-(width + left + pad_w) // stride_w), left - pad_w + reach_w // stride_w + out_w + NARROW)
        run = -(-run // NARROW) // 2 * 2 * NARROW + NARROW  # an odd number of cache lines
        fitting = (ROOM // (per_in * stride_w * run) - reach_h - 1) // stride_h + 1
        strips = max(1, -(-out_h // max(1, fitting)), min(out_h // 4, -(-wanted // (images * group))))
        step = -(-out_h // strips)
        rows = (step - 1) * stride_h + reach_h + 1
        size = per_in * rows * stride_w * run
        taps = [(ty * hole_h * stride_w + tx * hole_w % stride_w) * run + tx * hole_w // stride_w + left - pad_w
                for ty in range(kernel_h) for tx in range(kernel_w)]
        offsets = (np.array(taps)[:, None] + np.arange(per_in) * rows * stride_w * run).reshape(-1)
    strips = chunks(out_h, step)
    parts = chunks(group, max(1, group * images * len(strips) // max(wanted, 1)))
    shape = channels, height, width, outputs, out_h, out_w, pixels, group
    return Plan(blocks, offsets, shape, geo, (rows, run, left), size,
                [(n, *part, *strip) for n in range(images) for part in parts for strip in strips])


@functools.lru_cache(512)
def cost(x: tuple[int, ...], y: tuple[int, ...], windows: tuple[Window, Window], group: int) -> float:
    """Return about how many processor cycles a convolution takes, as `conv.choose_way` counts them."""
    how = plan(x, y, windows, group, False)
    if how.room > MOST_ROOM or (how.room == 0 and x[1] // group > MOST_PLANES):
        return math.inf
    columns = how.shape[5]
    across = -(-columns // NARROW) * NARROW / columns
    products = y[0] * group * padded_rows(how.blocks) * how.shape[6] * across * (len(how.offsets) / 32 * 1.2 + 0.25)
    return products + len(how.tasks) * how.room * (how.tasks[0][2] - how.tasks[0][1]) / 6


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
    alone = is_direct(weight, y.shape[1], group)
    how = plan(x.shape, y.shape, tuple(windows), group, alone)
    if alone:
        panels = keep(("alone", group), lambda: taps_first(weight))
    else:
        panels = keep(("panels", group), lambda: packed(weight, group)).reshape(-1)
    shift, slope = row_numbers(bias, finish, y.shape[1])
    source, target = x.reshape(-1), y.reshape(-1)
    base = ZEROS if finish.base is None else finish.base.reshape(-1)

    def work(i: int) -> None:
        convolve(source, target, base, aligned("room", how.room), panels, how.blocks, how.offsets, shift, slope,
                 scratch("edge", (ROWS[0] * WIDTH,), np.float32), how.tasks[i], how.shape, how.geo, how.room_shape,
                 finish.base is not None, finish.act == 1, np.float32(finish.cap))

    parallel(work, len(how.tasks))


def row_numbers(bias: np.ndarray | None, finish: Finish, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bias and slope of each output, with zeros after them for blocks that reach beyond the last one."""
    tail = np.zeros(ROWS[0], np.float32)
    return (np.concatenate((np.zeros(rows, np.float32) if bias is None else bias, tail)),
            np.concatenate((finish.slopes(rows), tail)))


def taps_first(weight: np.ndarray) -> np.ndarray:
    """Return the weights of groups of few channels, flat, in the order (output, tap, channel)."""
    return np.ascontiguousarray(weight.reshape(*weight.shape[:2], -1).swapaxes(1, 2)).reshape(-1)
