"""Compiled half of `meanfield`: one pass from blurred vertices to splatted vertices, for a chunk of points.

For each group of points: slice all kernels, add the unary, softmax, splat. Nothing is stored for a
point from one pass to the next but, where asked for, its beliefs.

Values of vertices lie in rows, `blocks` vectors of `lanes` labels, because a tap takes all labels of
one vertex. Energies and beliefs lie in lines, one a label, as the caller has them; there the softmax
needs no sums across a vector. So a group of `GROUP` points is turned from rows to lines and back.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import (
    add,
    div,
    exp,
    fill,
    less,
    load,
    maximum,
    memory,
    memory_at,
    minimum,
    mul,
    muladd,
    nan_flags,
    part,
    peek,
    prefetch,
    store,
    sub,
    turn,
    widest,
)

__all__ = ["COLUMNS", "GROUP", "make_update", "survey", "work_size"]

GROUP = 16  # points worked on side by side; their rows stay in the first-level cache
COLUMNS = 9  # of the table of addresses, one row a kernel
IDS, WEIGHTS, AFTER, BEFORE, NAMED, VERTICES, PARTIAL, AHEAD, BEHIND = range(COLUMNS)
BOTTOM = np.float32(-1e30)  # logit of a label whose energy is +inf


@jit
def work_size(width, kept):
    """Return how many numbers `update` keeps about a group: its rows, and lines of beliefs and of unaries."""
    return (2 * width + (kept + 3 + 15) // 16 * 16) * GROUP


@jit
def unusable(start, stop, energies, labels, points):
    """Return the first point whose energies hold NaN or -inf, or only +inf; -1 if there is none."""
    for n in range(start, stop):
        low = np.float32(np.inf)
        for l in range(labels):
            value = energies[l * points + n]
            if value != value:
                return n
            low = min(low, value)
        if not np.abs(low) < np.float32(np.inf):
            return n
    return -1


@jit
def survey(start, stop, energies, labels, points, top):
    """Find how near each label comes to the smallest energy of a point.

    Parameters
    ----------
    energies : (L * N,) float32
    top : (L,) float32
        Receives the largest ``smallest energy - energy`` of each label at points start … stop-1, at
        most 0.

    Returns
    -------
    int
        A point whose energies are unusable, or -1.
    """
    best = np.full(labels * GROUP, np.float32(-np.inf))
    whole = start + (stop - start) // GROUP * GROUP
    for n in range(start, whole, GROUP):
        low = load(energies, n, GROUP)
        flags = nan_flags(low)
        for l in range(1, labels):
            value = load(energies, l * points + n, GROUP)
            flags = maximum(flags, nan_flags(value))
            low = minimum(low, value)
        if widest(maximum(flags, nan_flags(sub(low, low)))) > 0:
            return unusable(n, n + GROUP, energies, labels, points)
        for l in range(labels):
            near = sub(low, load(energies, l * points + n, GROUP))
            store(best, l * GROUP, maximum(load(best, l * GROUP, GROUP), near))
    bad = unusable(whole, stop, energies, labels, points)
    for n in range(whole, stop):
        low = energies[n]
        for l in range(1, labels):
            low = min(low, energies[l * points + n])
        for l in range(labels):
            best[l * GROUP] = max(best[l * GROUP], low - energies[l * points + n])
    for l in range(labels):
        top[l] = widest(load(best, l * GROUP, GROUP))
    return bad


@jit(inline="always")
def fetch(source, at, count, whole, lines, to):
    """Copy `count` numbers to a line; all of it where `whole` says that `source` reaches that far."""
    if whole:
        store(lines, to, load(source, at, GROUP))
    else:
        for j in range(count):
            lines[to + j] = source[at + j]


@jit(inline="always")
def put(lines, start, target, to, count):
    """Copy the first `count` numbers of a line."""
    if count == GROUP:
        store(target, to, load(lines, start, GROUP))
    else:
        for j in range(count):
            target[to + j] = lines[start + j]


@jit(inline="always")
def announce(n, energies, points, kept, size, dropped, gone, ends):
    """Ask for what the next run will need from point n on: processors do not guess jumps between lines."""
    for k in range(size):
        prefetch(energies, kept[k] * points + n)
    if ends:
        for k in range(gone):
            prefetch(energies, dropped[k] * points + n)


@jit(inline="always")
def stage(count, n, energies, points, kept, size, unary):
    """Write lines of logits ``least - energy`` of points n … n+count-1, and behind them a line of `least`."""
    whole = n + GROUP <= points
    low = fill(np.float32(np.inf), GROUP)
    for k in range(size):
        fetch(energies, kept[k] * points + n, count, whole, unary, k * GROUP)
        low = minimum(low, load(unary, k * GROUP, GROUP))
    for k in range(size):
        value = maximum(sub(low, load(unary, k * GROUP, GROUP)), fill(BOTTOM, GROUP))
        store(unary, k * GROUP, value)
    store(unary, size * GROUP, low)


@jit
def tally(count, n, points, kept, size, unary, lines, beliefs, figures):
    """Add to `figures` what the beliefs before this update and their messages (in `lines`) give."""
    for k in range(size):
        for j in range(count):
            q = beliefs[kept[k] * points + n + j]
            if q > 0:
                figures[0] -= np.float64(q) * unary[k * GROUP + j]
                figures[1] += np.float64(q) * lines[k * GROUP + j]
                figures[2] += np.float64(q) * math.log(q)
    for j in range(count):
        figures[0] += unary[size * GROUP + j]


@jit
def gather_rest(count, n, i, energies, points, size, dropped, gone, unary, rest):
    """Write the logarithm of the sum over the labels `dropped`, relative to `least`, to `rest`."""
    whole = n + GROUP <= points
    least, work = size * GROUP, (size + 1) * GROUP
    mass = fill(np.float32(0), GROUP)
    for k in range(gone):
        fetch(energies, dropped[k] * points + n, count, whole, unary, work)
        value = maximum(sub(load(unary, least, GROUP), load(unary, work, GROUP)), fill(BOTTOM, GROUP))
        mass = add(mass, exp(value))
    store(unary, work, mass)
    for j in range(count):
        rest[i + j] = math.log(max(unary[work + j], np.float32(1e-37)))


@jit(inline="always")
def soften(count, n, i, points, kept, size, gone, unary, lines, rest, relax, beliefs):
    """Turn lines of messages into lines of beliefs.

    Where labels were dropped, `rest` holds their joint logit, which takes part as line 0; what stood
    there, and the largest belief of each point, go behind the line of `least` in `unary`.
    """
    pruned = gone > 0
    first = 1 if pruned else 0
    peak = fill(BOTTOM, GROUP)
    if pruned:
        store(unary, (size + 1) * GROUP, load(lines, 0, GROUP))
        peak = load(rest, i, GROUP)
        store(lines, 0, peak)
    for k in range(size):
        value = add(load(unary, k * GROUP, GROUP), load(lines, (first + k) * GROUP, GROUP))
        store(lines, (first + k) * GROUP, value)
        peak = maximum(peak, value)
    mass = fill(np.float32(0), GROUP)
    for k in range(first + size):
        value = exp(sub(load(lines, k * GROUP, GROUP), peak))
        store(lines, k * GROUP, value)
        mass = add(mass, value)
    most = div(fill(np.float32(1), GROUP), mass)
    for k in range(first + size):
        store(lines, k * GROUP, mul(load(lines, k * GROUP, GROUP), most))
    store(unary, (size + 2) * GROUP, most)
    if relax != np.float32(1):
        for k in range(size):
            for j in range(count):
                old = beliefs[kept[k] * points + n + j]
                lines[(first + k) * GROUP + j] = old + relax * (lines[(first + k) * GROUP + j] - old)


@jit
def publish(count, n, i, energies, points, kept, size, dropped, gone, unary, lines, rest, beliefs):
    """Write a group's beliefs; dropped labels share that of the rest, line 0, by their unaries."""
    whole = n + GROUP <= points
    first = 1 if gone else 0
    for k in range(size):
        put(lines, (first + k) * GROUP, beliefs, kept[k] * points + n, count)
    for k in range(gone):
        at = dropped[k] * points + n
        fetch(energies, at, count, whole, unary, 0)
        value = sub(sub(load(unary, size * GROUP, GROUP), load(unary, 0, GROUP)), load(rest, i, GROUP))
        value = minimum(maximum(value, fill(BOTTOM, GROUP)), fill(np.float32(0), GROUP))
        store(unary, 0, mul(load(lines, 0, GROUP), exp(value)))
        put(unary, 0, beliefs, at, count)


@jit(inline="always")
def bound(count, size, unary, lines, slack):
    """Replace line 0, the belief of the rest, by a bound of the beliefs' error; return the largest.

    Line 0 of the messages carried the bound before. Messages off by at most eta change a belief q by
    at most ``q (1 - q) (e^(2 eta) - 1)``, and the dropped labels' own messages, taken as 0, by
    ``q q_rest e^eta slack``.
    """
    one, half = fill(np.float32(1), GROUP), fill(np.float32(0.5), GROUP)
    eta, most = load(unary, (size + 1) * GROUP, GROUP), load(unary, (size + 2) * GROUP, GROUP)
    known = less(eta, half)
    eta = minimum(eta, half)
    twice = add(eta, eta)
    error = mul(mul(most, sub(one, most)), muladd(twice, twice, twice))  # e^x - 1 <= x + x^2 for x up to 1
    error = muladd(mul(mul(most, load(lines, 0, GROUP)), add(one, twice)), fill(slack, GROUP), error)
    store(lines, 0, add(mul(known, error), sub(one, known)))
    worst = np.float32(0)
    for j in range(count):
        worst = max(worst, lines[j])
    return worst


@jit(inline="always")
def slice_group(lanes, taps, blocks, count, i, ids, weights, after, scaled, factor, local, base, rows):
    """Add to `rows` what one kernel's vertices say to the points at places i … i+count-1."""
    for p in range(count):
        scale = factor
        if scaled:
            scale = factor * peek(after, i + p)
        for b in range(blocks):
            message = fill(np.float32(0), lanes)
            left = np.float32(1)
            for t in range(1, taps):
                share = peek(weights, (i + p) * (taps - 1) + t - 1)
                left -= share
                at = (base + np.int64(peek(ids, (i + p) * taps + t))) * blocks + b
                message = muladd(fill(share, lanes), load(local, at * lanes, lanes), message)
            at = (base + np.int64(peek(ids, (i + p) * taps))) * blocks + b
            message = muladd(fill(left, lanes), load(local, at * lanes, lanes), message)
            at = (p * blocks + b) * lanes
            store(rows, at, muladd(fill(scale, lanes), message, load(rows, at, lanes)))


@jit(inline="always")
def splat_group(lanes, taps, blocks, count, i, ids, weights, before, scaled, rows, partial, base):
    """Spread `rows` over one kernel's copies of vertices."""
    for p in range(count):
        for b in range(blocks):
            value = load(rows, (p * blocks + b) * lanes, lanes)
            if scaled:
                value = mul(fill(peek(before, i + p), lanes), value)
            left = np.float32(1)
            for t in range(1, taps):
                share = peek(weights, (i + p) * (taps - 1) + t - 1)
                left -= share
                at = ((base + np.int64(peek(ids, (i + p) * taps + t))) * blocks + b) * lanes
                store(partial, at, muladd(fill(share, lanes), value, load(partial, at, lanes)))
            at = ((base + np.int64(peek(ids, (i + p) * taps))) * blocks + b) * lanes
            store(partial, at, muladd(fill(left, lanes), value, load(partial, at, lanes)))


@jit(inline="always")
def collect(lanes, blocks, begin, end, numbers, floats, tables, k, local, base):
    """Lay the vertices' rows that a chunk reads side by side, blurred along a last axis if there is one."""
    vertices, named = memory_at(floats, tables[k * COLUMNS + VERTICES]), memory_at(numbers, tables[k * COLUMNS + NAMED])
    ahead, behind = memory_at(numbers, tables[k * COLUMNS + AHEAD]), memory_at(numbers, tables[k * COLUMNS + BEHIND])
    last = tables[k * COLUMNS + AHEAD] != 0
    half = fill(np.float32(0.5), lanes)
    for row in range(begin, end):
        v = np.int64(peek(named, row))
        for b in range(blocks):
            value = load(vertices, (v * blocks + b) * lanes, lanes)
            if last:
                one, two = np.int64(peek(ahead, v)), np.int64(peek(behind, v))
                pair = add(load(vertices, (one * blocks + b) * lanes, lanes),
                           load(vertices, (two * blocks + b) * lanes, lanes))
                value = muladd(half, pair, value)
            store(local, ((base + row - begin) * blocks + b) * lanes, value)


@jit(inline="always")
def slice_all(lanes, blocks, c, count, i, ids, floats, kernels, step, tables, taps_of, factors, rows_of, local, rows):
    """Write to `rows` what all kernels' vertices say to the points at places i … i+count-1."""
    for at in range(0, GROUP * blocks * lanes, lanes):
        store(rows, at, fill(np.float32(0), lanes))
    base = np.int64(0)
    for k in range(kernels):
        own, weights = memory_at(ids, tables[k * COLUMNS + IDS]), memory_at(floats, tables[k * COLUMNS + WEIGHTS])
        after, scaled = memory_at(floats, tables[k * COLUMNS + AFTER]), tables[k * COLUMNS + AFTER] != 0
        if taps_of[k] == 3:
            slice_group(lanes, 3, blocks, count, i, own, weights, after, scaled, factors[k], local, base, rows)
        elif taps_of[k] == 6:
            slice_group(lanes, 6, blocks, count, i, own, weights, after, scaled, factors[k], local, base, rows)
        else:
            slice_group(lanes, taps_of[k], blocks, count, i, own, weights, after, scaled, factors[k], local, base, rows)
        base += rows_of[k * step + c + 1] - rows_of[k * step + c]


@jit(inline="always")
def splat_all(lanes, blocks, c, count, i, ids, floats, kernels, step, tables, taps_of, rows_of, rows):
    """Spread `rows` over all kernels' copies of vertices."""
    for k in range(kernels):
        own, weights = memory_at(ids, tables[k * COLUMNS + IDS]), memory_at(floats, tables[k * COLUMNS + WEIGHTS])
        before, scaled = memory_at(floats, tables[k * COLUMNS + BEFORE]), tables[k * COLUMNS + BEFORE] != 0
        partial, base = memory_at(floats, tables[k * COLUMNS + PARTIAL]), rows_of[k * step + c]
        if taps_of[k] == 3:
            splat_group(lanes, 3, blocks, count, i, own, weights, before, scaled, rows, partial, base)
        elif taps_of[k] == 6:
            splat_group(lanes, 6, blocks, count, i, own, weights, before, scaled, rows, partial, base)
        else:
            splat_group(lanes, taps_of[k], blocks, count, i, own, weights, before, scaled, rows, partial, base)


@jit(inline="always")
def transpose(height, width, source, target):
    """Transpose (height, width) numbers, both multiples of 8."""
    for a in range(0, height, 8):
        for b in range(0, width, 8):
            turn(source, a * width + b, width, target, b * height + a, height)


@functools.cache
def make_update(lanes: int, single: bool):
    """Return the mean-field pass over chunks of points, for rows of one vector of `lanes` labels, or of `blocks`."""

    @jit
    def update(begin, end, cut, ids, named, tables, taps_of, factors, rows_of, blocks, energies, points, kept, dropped,
               rest, slack, relax, local, beliefs, figures, first, write, splat, measure):
        """Turn the vertices' values into the next beliefs of the points of chunks begin … end-1.

        Parameters
        ----------
        cut : tuple of arrays
            Where chunks' runs begin, at which place each run begins, and at which point.
        ids, named : empty arrays
            Of the types of the taps' numbers and the vertices' numbers.
        tables : (kernels * COLUMNS,) int64
            Addresses of each kernel's arrays, 0 for what it has not.
        taps_of, factors : (kernels,)
            Taps of a point, and what messages are multiplied by.
        rows_of : (kernels * (chunks + 1),)
            Where each chunk's rows begin.
        local : float32
            Work space: `work_size` numbers, then one chunk's rows of all kernels.
        beliefs : (L * N,) float32
            Receives the new beliefs where `write` says so.
        figures : (chunks, 4) float64
            Receives, with `measure`, expected unary, sum of beliefs times messages and negative entropy
            of the old beliefs; then the largest error bound of the new ones.
        first, splat : bool
            There are no messages yet; spread the new beliefs over rows of the kernels' copies.
        """
        run_starts, run_places, run_points = cut
        blocks = 1 if single else blocks
        width, size, gone, kernels = lanes * blocks, kept.size, dropped.size, taps_of.size
        step = rows_of.size // max(1, kernels)
        # from here on nothing is an array: Numba counts references to arrays at every turn of a loop
        local = memory(local)
        lines, rows, unary, local = local, part(local, width * GROUP), part(local, 2 * width * GROUP), part(
            local, work_size(width, size))
        ids, named, floats = memory(ids), memory(named), local
        kept, dropped, energies, beliefs, rest = (memory(kept), memory(dropped), memory(energies), memory(beliefs),
                                                  memory(rest))
        tables, taps_of, factors, rows_of = memory(tables), memory(taps_of), memory(factors), memory(rows_of)
        for c in range(begin, end):
            base = np.int64(0)
            for k in range(kernels):
                a, z = rows_of[k * step + c], rows_of[k * step + c + 1]
                if not first:
                    collect(lanes, blocks, a, z, named, floats, tables, k, local, base)
                base += z - a
                if splat:
                    partial = memory_at(floats, tables[k * COLUMNS + PARTIAL])
                    for at in range(a * width, z * width, lanes):
                        store(partial, at, fill(np.float32(0), lanes))
            for r in range(run_starts[c], run_starts[c + 1]):
                for i in range(run_places[r], run_places[r + 1], GROUP):
                    count = min(GROUP, run_places[r + 1] - i)
                    n = run_points[r] + i - run_places[r]
                    if r + 1 < run_starts[c + 1]:
                        ahead = run_points[r + 1] + i - run_places[r]
                        announce(ahead, energies, points, kept, size, dropped, gone, first or write)
                    stage(count, n, energies, points, kept, size, unary)
                    if first:
                        for at in range(0, width * GROUP, GROUP):
                            store(lines, at, fill(np.float32(0), GROUP))
                        if gone:
                            gather_rest(count, n, i, energies, points, size, dropped, gone, unary, rest)
                    else:
                        slice_all(lanes, blocks, c, count, i, ids, floats, kernels, step, tables, taps_of, factors,
                                  rows_of, local, rows)
                        transpose(GROUP, width, rows, lines)
                    if measure:
                        tally(count, n, points, kept, size, unary, lines, beliefs, figures[c])
                    soften(count, n, i, points, kept, size, gone, unary, lines, rest, relax, beliefs)
                    if write:
                        publish(count, n, i, energies, points, kept, size, dropped, gone, unary, lines, rest, beliefs)
                    if gone:
                        figures[c, 3] = max(figures[c, 3], bound(count, size, unary, lines, slack))
                    if splat:
                        transpose(width, GROUP, lines, rows)
                        splat_all(lanes, blocks, c, count, i, ids, floats, kernels, step, tables, taps_of, rows_of,
                                  rows)

    return update
