"""Compiled half of `meanfield`: one pass from blurred vertices to splatted vertices, for a chunk of points.

For each point: slice all kernels, add the unary, softmax, splat. Beliefs are not stored unless
asked for. A row is `blocks` vectors of `lanes` labels; unused lanes hold a logit of -1e30.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from atrouscaffe.crf.vector_cpu import (
    add,
    exp,
    fill,
    lead,
    load,
    maximum,
    minimum,
    mul,
    muladd,
    nan_flags,
    peek,
    store,
    sub,
    total,
    turn,
    widest,
    with_lead,
)
from atrouscaffe.runtime.jit import jit

__all__ = ["GROUP", "ingest", "join", "make_update", "survey", "write_beliefs"]

LANES = 16
GROUP = 16  # points whose rows stay in the first-level cache between the loops of a pass


@jit
def survey(runs, places, order, energies, labels, points, least, top):
    """Find the smallest energy at each point of a chunk, and how near each label comes to it.

    Parameters
    ----------
    runs : (number + 1,) int64
        Places where stretches of consecutive points begin, and where the last one ends.
    places : int
        Length of the longest run.
    least : (N,) float32
        Receives the smallest energy of each point.
    top : (L,) float32
        Receives the largest ``least - energy`` of each label, at most 0.

    Returns
    -------
    int
        A point whose energies are unusable (NaN, -inf, or all +inf), or -1.
    """
    size = (places + LANES - 1) // LANES * LANES
    lines = np.empty(labels * size, np.float32)
    low = np.empty(size, np.float32)
    for l in range(labels):
        top[l] = np.float32(-np.inf)
    for r in range(runs.size - 1):
        length = runs[r + 1] - runs[r]
        n = np.int64(order[runs[r]])
        padded = (length + LANES - 1) // LANES * LANES
        for l in range(labels):
            line = lines[l * size:l * size + padded]
            line[:length] = energies[l * points + n:l * points + n + length]
            line[length:] = line[length - 1]
        flags = fill(np.float32(0), LANES)
        for j in range(0, padded, LANES):
            smallest = load(lines, j, LANES)
            flags = maximum(flags, nan_flags(smallest))
            for l in range(1, labels):
                value = load(lines, l * size + j, LANES)
                flags = maximum(flags, nan_flags(value))
                smallest = minimum(smallest, value)
            store(low, j, smallest)
        unusable = widest(flags) > 0
        for j in range(length):
            unusable |= not np.abs(low[j]) < np.float32(np.inf)
        if unusable:
            for j in range(length):
                bad = not np.abs(low[j]) < np.float32(np.inf)
                for l in range(labels):
                    bad |= lines[l * size + j] != lines[l * size + j]
                if bad:
                    return n + j
        for l in range(labels):
            near = fill(np.float32(-np.inf), LANES)
            for j in range(0, padded, LANES):
                near = maximum(near, sub(load(low, j, LANES), load(lines, l * size + j, LANES)))
            top[l] = max(top[l], widest(near))
        least[n:n + length] = low[:length]
    return -1


@jit
def ingest(runs, places, order, energies, points, least, kept, dropped, first_lane, width, logits, rest):
    """Write rows of logits, ``least - energy``, in the order of the cut.

    Labels `kept` go to lanes from `first_lane` on. `rest` receives the logarithm of the sum over
    the labels `dropped`, if there are any.
    """
    size = (places + LANES - 1) // LANES * LANES
    lines = np.full(width * size, np.float32(-1e30))  # lanes that no label uses stay so
    mass = np.zeros(size, np.float32)
    low = np.zeros(size, np.float32)
    bottom = fill(np.float32(-1e30), LANES)
    for r in range(runs.size - 1):
        i, length = runs[r], runs[r + 1] - runs[r]
        n = np.int64(order[i])
        low[:length] = least[n:n + length]
        for k in range(kept.size):
            line = (first_lane + k) * size
            lines[line:line + length] = energies[kept[k] * points + n:kept[k] * points + n + length]
            for j in range(0, length, LANES):
                store(lines, line + j, maximum(sub(load(low, j, LANES), load(lines, line + j, LANES)), bottom))
        if dropped.size:
            mass[:] = 0
            for k in range(dropped.size):
                lines[:length] = energies[dropped[k] * points + n:dropped[k] * points + n + length]
                for j in range(0, length, LANES):
                    value = exp(maximum(sub(load(low, j, LANES), load(lines, j, LANES)), bottom))
                    store(mass, j, add(load(mass, j, LANES), value))
            for j in range(length):
                rest[i + j] = math.log(max(mass[j], np.float32(1e-37)))
            lines[:length] = 0
        whole = length // 8 * 8
        for lane in range(0, width, 8):
            for j in range(0, whole, 8):
                turn(lines, lane * size + j, size, logits, (i + j) * width + lane, width)
            for j in range(whole, length):
                for extra in range(8):
                    logits[(i + j) * width + lane + extra] = lines[(lane + extra) * size + j]


@jit
def write_beliefs(runs, places, order, beliefs, base, energies, points, least, kept, dropped, first_lane, width, rest,
                  out):
    """Write a chunk's rows of beliefs to (labels, points) in the points' own order.

    Dropped labels share the belief of the rest by their unaries.
    """
    size = (places + LANES - 1) // LANES * LANES
    lines = np.empty(width * size, np.float32)
    line = np.zeros(size, np.float32)
    nothing, bottom = fill(np.float32(0), LANES), fill(np.float32(-1e30), LANES)
    for r in range(runs.size - 1):
        i, length = runs[r], runs[r + 1] - runs[r]
        n = np.int64(order[i])
        whole = length // 8 * 8
        for lane in range(0, width, 8):
            for j in range(0, whole, 8):
                turn(beliefs, (i - base + j) * width + lane, width, lines, lane * size + j, size)
            for j in range(whole, length):
                for extra in range(8):
                    lines[(lane + extra) * size + j] = beliefs[(i - base + j) * width + lane + extra]
        for k in range(kept.size):
            at = (first_lane + k) * size
            out[kept[k] * points + n:kept[k] * points + n + length] = lines[at:at + length]
        for k in range(dropped.size):
            start = dropped[k] * points + n
            for j in range(length):
                line[j] = least[n + j] - energies[start + j] - rest[i + j]
            for j in range(0, length, LANES):
                value = minimum(maximum(load(line, j, LANES), bottom), nothing)
                store(line, j, mul(load(lines, j, LANES), exp(value)))
            out[start:start + length] = line[:length]


@jit
def join(start, stop, offset, ids, weights, column, joined_ids, joined_weights):
    """Copy one kernel's taps of points start … stop-1 into their columns of all kernels' taps."""
    own = ids.shape[1]
    for i in range(start, stop):
        for t in range(own):
            joined_ids[i, column + t] = ids[i, t] + np.int32(offset)
            joined_weights[i, column + t] = weights[i, t]


@functools.cache
def make_update(lanes: int, fixed: tuple[int, ...] = ()):
    """Return the mean-field pass over a chunk, compiled for vectors of `lanes` labels.

    Where `fixed` says at which taps kernels begin, loops over them are unrolled; else `tap_starts` counts.
    """
    unrolled = len(fixed) > 1
    fixed = fixed if unrolled else (0, 0)

    fixed_kernels, fixed_taps = len(fixed) - 1, fixed[-1]

    @jit
    def update(start, stop, row_start, row_stop, tap_starts, blocks, named, vertices, logits, ids,
               weights, after, before, beliefs, base, partial, local, scratch, rest, slack, figures, first, keep, splat,
               relax, measure):
        """Turn the vertices' values into the next beliefs of points start … stop-1.

        Parameters
        ----------
        first : bool
            There are no messages yet: softmax of the unary alone.
        beliefs, base, keep
            With `keep`, beliefs of point i are read from and written to row i - `base`.
        rest, slack
            Where labels were dropped, `rest` (N,) holds their joint logit, which takes part as lane
            0; else it is empty. Lane 0 of the vertices then carries a bound of the beliefs' error:
            messages off by at most eta change a belief q by at most ``q (1 - q) (e^(2 eta) - 1)``,
            and the dropped labels' own messages, taken as 0, by ``q q_rest e^eta slack``.
        splat : bool
            Spread the new beliefs into rows row_start … row_stop-1 of `partial`.
        figures : (4,) float64
            Receives expected unary, sum of beliefs times messages and negative entropy of the old
            beliefs, and the largest error bound of the new ones.
        """
        width = lanes * blocks
        kernels = fixed_kernels if unrolled else tap_starts.size - 1
        taps = fixed_taps if unrolled else tap_starts[tap_starts.size - 1]
        pruned = rest.size > 0
        worst = np.float32(0)
        zero = fill(np.float32(0), lanes)
        if not first:  # rows of the vertices that this chunk reads, side by side
            for row in range(row_stop - row_start):
                at = np.int64(peek(named, row_start + row)) * width
                for b in range(blocks):
                    store(local, row * width + b * lanes, load(vertices, at + b * lanes, lanes))
        if splat:
            for at in range(row_start * blocks, row_stop * blocks):
                store(partial, at * lanes, zero)
        for begin in range(start, stop, GROUP):
            end = min(begin + GROUP, stop)
            # three loops instead of one: each has short chains of dependent operations, which overlap
            for i in range(begin, end):
                for b in range(blocks):
                    value = load(logits, i * width + b * lanes, lanes)
                    if not first:
                        for k in range(kernels):
                            message = zero
                            begin_tap = fixed[k] if unrolled else tap_starts[k]
                            end_tap = fixed[k + 1] if unrolled else tap_starts[k + 1]
                            for t in range(i * taps + begin_tap, i * taps + end_tap):
                                at = np.int64(peek(ids, t)) * width + b * lanes
                                message = muladd(fill(peek(weights, t), lanes), load(local, at, lanes), message)
                            value = muladd(fill(peek(after, i * kernels + k), lanes), message, value)
                    store(scratch, (i - begin) * width + b * lanes, value)
            if measure:
                for i in range(begin, end):
                    for l in range(width):
                        q = beliefs[(i - base) * width + l]
                        if q > 0:
                            unary = logits[i * width + l]
                            figures[0] -= np.float64(q) * unary
                            figures[1] += np.float64(q) * (scratch[(i - begin) * width + l] - unary)
                            figures[2] += np.float64(q) * math.log(q)
            for i in range(begin, end):
                row = (i - begin) * width
                value = load(scratch, row, lanes)
                eta = lead(value)
                if pruned:
                    value = with_lead(value, peek(rest, i))
                largest = value
                for b in range(1, blocks):
                    largest = maximum(largest, load(scratch, row + b * lanes, lanes))
                peak = fill(widest(largest), lanes)
                value = exp(sub(value, peak))
                mass = value
                store(scratch, row, value)
                for b in range(1, blocks):
                    value = exp(sub(load(scratch, row + b * lanes, lanes), peak))
                    mass = add(mass, value)
                    store(scratch, row + b * lanes, value)
                most = np.float32(1) / total(mass)
                share = fill(most, lanes)
                for b in range(blocks):
                    value = mul(load(scratch, row + b * lanes, lanes), share)
                    if keep:
                        if not first and relax != np.float32(1):
                            old = load(beliefs, (i - base) * width + b * lanes, lanes)
                            value = muladd(fill(relax, lanes), sub(value, old), old)
                        store(beliefs, (i - base) * width + b * lanes, value)
                    if pruned and b == 0:
                        error = np.float32(1)
                        if first:
                            error = np.float32(0)
                        elif eta < np.float32(0.5):
                            twice = eta + eta
                            error = most * (np.float32(1) - most) * (twice + twice * twice)  # e^x - 1 <= x + x^2
                            error += most * lead(value) * (np.float32(1) + twice) * slack
                        worst = max(worst, error)
                        value = with_lead(value, error)
                    store(scratch, row + b * lanes, value)
            if not splat:
                continue
            for i in range(begin, end):
                for b in range(blocks):
                    value = load(scratch, (i - begin) * width + b * lanes, lanes)
                    for k in range(kernels):
                        scaled = mul(fill(peek(before, i * kernels + k), lanes), value)
                        begin_tap = fixed[k] if unrolled else tap_starts[k]
                        end_tap = fixed[k + 1] if unrolled else tap_starts[k + 1]
                        for t in range(i * taps + begin_tap, i * taps + end_tap):
                            at = (row_start + np.int64(peek(ids, t))) * width + b * lanes
                            store(partial, at, muladd(fill(peek(weights, t), lanes), scaled, load(partial, at, lanes)))
        figures[3] = worst

    return update
