"""Transposed convolutions with a stride, by the direct kernel: small deconvolutions, bilinear enlargement by groups.

Each phase of the stride is an ordinary convolution of few taps (`direct_cpu.spread`); a product with columns, added up
afterwards, would write and read every product once more.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops.direct import MOST_ROOM, ROOM, SMALL_WORK, TASKS, ZEROS, row_numbers
from atrouscaffe.ops.direct_cpu import ALONE, NARROW, spread
from atrouscaffe.ops.finish import PLAIN, Finish
from atrouscaffe.ops.keep import Keep, make_anew
from atrouscaffe.ops.product import aligned, padded_rows, row_blocks
from atrouscaffe.ops.product_cpu import ROWS, pack_rows
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["fits", "transpose"]

LEAST_OUTPUTS = 3
"""Outputs of a group from which on blocks of several are worth their padding."""


@dataclass(frozen=True)
class Plan:
    """What follows from the shapes; the words are those of `direct_cpu.spread`."""

    blocks: np.ndarray
    taps: list[list[int]]
    offsets: np.ndarray
    starts: np.ndarray
    shape: tuple[int, ...]
    pads: tuple[int, int]
    room_shape: tuple[int, int, int]
    room: int
    tasks: list[tuple[int, int, int, int, int]]


def _phases(window: Window) -> list[list[tuple[int, int]]]:
    """List for each phase the taps that meet pixels there, with how far from the phase's own pixel."""
    return [[(t, (r + window.pad - t * window.hole) // window.stride) for t in range(window.kernel)
             if (r + window.pad - t * window.hole) % window.stride == 0] for r in range(window.stride)]


@functools.lru_cache(256)
def plan(dy: tuple[int, ...], x: tuple[int, ...], windows: tuple[Window, Window], group: int) -> Plan | None:
    """Return how a transposed convolution from shape `dy` to shape `x` is done; None where it is not done here."""
    phases = [_phases(window) for window in windows]
    if all(w.stride == 1 for w in windows) or any(not taps for side in phases for taps in side):
        return None
    (images, channels, height, width), (outputs, out_h, out_w) = dy, x[1:]
    per_in, per_out = channels // group, outputs // group
    stride_h, stride_w = (w.stride for w in windows)
    (above, below), (left, right) = ((max(0, -min(d for taps in side for _, d in taps)),
                                      max(0, max(d for taps in side for _, d in taps))) for side in phases)
    left = -(-left // NARROW) * NARROW  # pixels begin at a cache line
    columns, lines = -(-out_w // stride_w), -(-out_h // stride_h)
    run = left + max(width, columns + right) + ALONE
    run = -(-run // NARROW) // 2 * 2 * NARROW + NARROW
    work = images * channels * per_out * height * width * windows[0].kernel * windows[1].kernel
    wanted = max(1, min(TASKS, work // SMALL_WORK))
    fitting = ROOM // (per_in * run) - above - below
    strips = max(1, -(-lines // max(1, fitting)), min(lines // 4, -(-wanted // (images * group))))
    step = -(-lines // strips)
    rows = step + above + below
    if per_in * rows * run > MOST_ROOM:
        return None
    blocks = row_blocks(per_out)
    if per_out < LEAST_OUTPUTS:
        blocks = np.array([(m, 1, 1) for m in range(per_out)], np.int64)
    taps, offsets, starts = [], [], [0]
    for side in phases[0]:
        for other in phases[1]:
            taps.append([ty * windows[1].kernel + tx for ty, _ in side for tx, _ in other])
            offsets += [(c * rows + down + above) * run + across + left for _, down in side for _, across in other
                        for c in range(per_in)]
            starts.append(len(offsets))
    cuts = chunks(lines, step)
    parts = chunks(group, max(1, group * images * len(cuts) // wanted))
    length = -(-columns // NARROW) // 2 * 2 * NARROW + NARROW
    return Plan(blocks, taps, np.array(offsets), np.array(starts),
                (channels, height, width, outputs, out_h, out_w, group, stride_h, stride_w), (above, left),
                (rows, run, length), per_in * rows * run,
                [(n, *part, *cut) for n in range(images) for part in parts for cut in cuts])


def fits(dy: np.ndarray, weight: np.ndarray, x: np.ndarray, windows: Sequence[Window], group: int) -> bool:
    """Whether a transposed convolution can be done here: float32, every output reached by some tap, a stride."""
    return (all(a.dtype == np.float32 and a.flags.c_contiguous for a in (dy, weight, x))
            and plan(dy.shape, x.shape, tuple(windows), group) is not None)


def packed(weight: np.ndarray, how: Plan, group: int) -> np.ndarray:
    """Return weights (C, M/group, kernel_h, kernel_w) packed by group and phase."""
    per_in, per_out = weight.shape[0] // group, weight.shape[1]
    grouped = weight.reshape(group, per_in, per_out, -1)
    padded = padded_rows(how.blocks)
    panels = np.empty((group, padded * len(how.offsets)), np.float32)
    for g in range(group):
        for taps, start, end in zip(how.taps, how.starts, how.starts[1:]):
            rows = np.ascontiguousarray(grouped[g][:, :, taps].transpose(1, 2, 0)).reshape(-1)
            pack_rows(rows, end - start, 1, how.blocks, panels[g, start * padded : end * padded])
    return panels.reshape(-1)


def transpose(dy: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, x: np.ndarray, windows: Sequence[Window],
              group: int, finish: Finish = PLAIN, keep: Keep = make_anew) -> None:
    """Write the adjoint of a convolution into x, finished.

    Parameters
    ----------
    dy : (N, C, H, W) float32, contiguous
    weight : (C, M/group, kernel_h, kernel_w) float32
    bias : (M,) float32 or None
    x : (N, M, out_h, out_w) float32, contiguous, written
    windows : two of Window
    group : int
    finish : Finish
        Without a base.
    keep : Keep
        Holds the packed weights.
    """
    how = plan(dy.shape, x.shape, tuple(windows), group)
    assert how is not None, "a transposed convolution that does not fit"
    panels = keep(("spread", group, tuple(windows)), lambda: packed(weight, how, group))
    shift, slope = row_numbers(bias, finish, x.shape[1])
    source, target = dy.reshape(-1), x.reshape(-1)
    lines = (x.shape[1] // group + ROWS[0]) * windows[1].stride * how.room_shape[2] + ALONE

    def work(i: int) -> None:
        spread(source, target, ZEROS, aligned("room", how.room), aligned("lines", lines), panels, how.blocks,
               how.offsets, how.starts, shift, slope, how.tasks[i], how.shape, how.pads, how.room_shape,
               finish.act == 1, np.float32(finish.cap))

    parallel(work, len(how.tasks))
