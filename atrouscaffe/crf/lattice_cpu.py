"""Compiled half of `lattice`: which simplex a point lies in, the vertices' hash table, neighbours.

A vertex is named by its first d integer coordinates k, packed into `words` 64-bit integers as
digits of a mixed radix: sum over i of (k_i - low_i) * factor_i. The radices are wide enough for
every vertex and its neighbours, so digits never carry and a step on the lattice is the addition of
a constant. Tables use open addressing in a power of two of slots, at most half full.
"""

from __future__ import annotations

import functools

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import add, fill, less, load, mul, peek, poke, rint, store, sub

__all__ = ["index_copies", "make_embed", "make_link", "make_merge"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads keys over the upper bits
LANES = 16  # points whose simplex is found side by side


@jit
def rehash(slots, keys, count, words, spare):
    """Enter the first `count` keys into the empty table `slots`, which has 64 - `spare` bits."""
    mask = np.uint64(slots.size - 1)
    for v in range(count):
        spot = np.uint64(0)
        for w in range(words):
            spot = (spot ^ (spot >> np.uint64(32)) ^ keys[v * words + w]) * GOLDEN
        spot >>= spare
        while slots[spot] >= 0:
            spot = (spot + np.uint64(1)) & mask
        slots[spot] = v


@jit(inline="always")
def elevate(dims, features, stride, n, scale, steps, elevated, nearest, rank, residue):
    """Find the simplices of `LANES` points from point n on, one a lane.

    Writes lines of each axis: the nearest vertex whose coordinates are all multiples of d + 1, the
    residue from there in units of d + 1, and the residue's rank among the axes, the largest first.
    """
    taps = dims + 1
    inverse = fill(steps[dims + 2], LANES)
    zero, one = fill(steps[0], LANES), fill(steps[1], LANES)
    partial = zero
    for j in range(dims, 0, -1):  # from d features to d + 1 coordinates that sum to 0
        part = mul(load(features, (j - 1) * stride + n, LANES), fill(scale[j - 1], LANES))
        store(elevated, j * LANES, sub(partial, mul(fill(steps[j], LANES), part)))
        partial = add(partial, part)
    store(elevated, 0, partial)
    excess = zero
    for i in range(taps):
        whole = rint(mul(inverse, load(elevated, i * LANES, LANES)))
        store(nearest, i * LANES, mul(whole, fill(steps[dims + 1], LANES)))
        store(residue, i * LANES, sub(load(elevated, i * LANES, LANES), load(nearest, i * LANES, LANES)))
        store(rank, i * LANES, zero)
        excess = add(excess, whole)
    for i in range(dims):
        mine = load(residue, i * LANES, LANES)
        gained = load(rank, i * LANES, LANES)
        for j in range(i + 1, taps):
            smaller = less(mine, load(residue, j * LANES, LANES))
            gained = add(gained, smaller)
            store(rank, j * LANES, add(load(rank, j * LANES, LANES), sub(one, smaller)))
        store(rank, i * LANES, gained)
    for i in range(taps):  # coordinates that do not sum to 0: bring the vertex back onto the plane
        moved = add(load(rank, i * LANES, LANES), excess)
        up = less(moved, zero)
        down = less(fill(steps[dims], LANES), moved)
        shift = mul(sub(up, down), fill(steps[dims + 1], LANES))
        store(rank, i * LANES, add(moved, shift))
        vertex = add(load(nearest, i * LANES, LANES), shift)
        store(nearest, i * LANES, vertex)
        store(residue, i * LANES, mul(sub(load(elevated, i * LANES, LANES), vertex), inverse))


@jit(inline="always")
def name_vertices(dims, words, lane, nearest, rank, residue, low, factor, deltas, at_rank, names, weights, at):
    """Write the keys of one lane's simplex to `names`, and the point's weights but the first from `at` on."""
    taps = dims + 1
    for i in range(taps):
        r = min(max(np.int64(peek(rank, i * LANES + lane)), 0), dims)
        poke(at_rank, dims - r, i)
    for w in range(words):
        name = np.uint64(0)
        for i in range(dims):
            digit = np.int64(peek(nearest, i * LANES + lane)) - peek(low, i)
            name += np.uint64(digit) * peek(factor, i * words + w)
        poke(names, w, name)
        for r in range(1, taps):  # each vertex is one step in one axis away from the one before
            name += peek(deltas, peek(at_rank, r - 1) * words + w)
            poke(names, r * words + w, name)
    behind = peek(residue, peek(at_rank, 0) * LANES + lane)
    for r in range(1, taps):
        ahead = peek(residue, peek(at_rank, r) * LANES + lane)
        poke(weights, at + r - 1, ahead - behind)
        behind = ahead


@jit(inline="always")
def look_up(words, slots, keys, names, at, spare):
    """Return (number of the key names[at …], or -1, and the slot where it is or belongs)."""
    spot = np.uint64(0)
    for w in range(words):
        spot = (spot ^ (spot >> np.uint64(32)) ^ peek(names, at + w)) * GOLDEN
    spot >>= spare
    while True:
        found = np.int64(peek(slots, np.int64(spot)))
        if found < 0:
            break
        equal = True
        for w in range(words):
            equal = equal and peek(keys, found * words + w) == peek(names, at + w)
        if equal:
            break
        spot = (spot + np.uint64(1)) & np.uint64(slots.size - 1)
    return found, np.int64(spot)


@functools.cache
def make_embed(fixed_dims: int = 0, fixed_words: int = 0):
    """Return the function that embeds a chunk of points; numbers other than 0 are compiled in."""

    @jit
    def embed(dims, words, features, stride, places, firsts, scale, steps, low, factor, ids, weights, slots, keys,
              ones):
        """Write vertex numbers (within the chunk) and barycentric weights of the points of a chunk's runs.

        Run r holds the points from firsts[r] on, at places[r] … places[r + 1] - 1. The first vertex of a
        simplex has what the d weights that are written leave of 1. `keys` receives the chunk's vertices,
        `words` numbers each, in order of first use; `slots` is the table, a power of two, twice as many
        as there is room for keys; `ones` receives the sum of the weights at each vertex. Returns how many
        vertices there are, or -1 for too many.
        """
        dims = fixed_dims if fixed_dims else dims
        words = fixed_words if fixed_words else words
        taps = dims + 1
        spare, room = np.uint64(65), slots.size
        while room > 0:  # bits of a hash beyond the table's
            spare, room = spare - np.uint64(1), room >> 1
        slots[:] = -1
        count = 0
        elevated, nearest = np.empty(taps * LANES, scale.dtype), np.empty(taps * LANES, scale.dtype)
        rank, residue = np.empty(taps * LANES, scale.dtype), np.empty(taps * LANES, scale.dtype)
        at_rank = np.zeros(taps, np.int64)
        names, last_names = np.zeros(taps * words, np.uint64), np.zeros(taps * words, np.uint64)
        last_ids = np.zeros(taps, np.int64)
        deltas = np.zeros(taps * words, np.uint64)  # a step: +1 in every coordinate, -d in that of the axis
        for w in range(words):
            for i in range(dims):
                for axis in range(taps):
                    deltas[axis * words + w] += factor[i * words + w]
                deltas[i * words + w] -= np.uint64(taps) * factor[i * words + w]
        for r in range(places.size - 1):
            for i in range(places[r], places[r + 1], LANES):
                n = firsts[r] + i - places[r]
                skip = max(0, n + LANES - stride)  # whole vectors are read
                elevate(dims, features, stride, n - skip, scale, steps, elevated, nearest, rank, residue)
                for lane in range(skip, skip + min(LANES, places[r + 1] - i)):
                    at = (i + lane - skip) * taps
                    name_vertices(dims, words, lane, nearest, rank, residue, low, factor, deltas, at_rank, names,
                                  weights, (i + lane - skip) * dims)
                    share = np.float32(1)
                    for t in range(1, taps):
                        share -= peek(weights, (i + lane - skip) * dims + t - 1)
                    for t in range(taps):
                        same = count > 0
                        for w in range(words):
                            same = same and peek(names, t * words + w) == peek(last_names, t * words + w)
                        if not same:
                            found, spot = look_up(words, slots, keys, names, t * words, spare)
                            if found < 0:
                                if 2 * count == slots.size:
                                    return -1
                                found = count
                                poke(slots, spot, np.int32(count))
                                poke(ones, count, np.float32(0))
                                for w in range(words):
                                    poke(keys, count * words + w, peek(names, t * words + w))
                                count += 1
                            poke(last_ids, t, found)
                            for w in range(words):
                                poke(last_names, t * words + w, peek(names, t * words + w))
                        found = peek(last_ids, t)
                        if t > 0:
                            share = peek(weights, (i + lane - skip) * dims + t - 1)
                        poke(ones, found, peek(ones, found) + share)
                        poke(ids, at + t, ids.dtype.type(found))
        return count

    return embed


@functools.cache
def make_merge(fixed_words: int = 0):
    """Return the function that joins the chunks' vertices; a number of words other than 0 is compiled in."""

    @jit
    def merge(words, rows, named):
        """Number the distinct keys of `rows` in order of first use.

        Writes the number of each row to `named`; returns the distinct keys and the hash table.
        """
        words = fixed_words if fixed_words else words
        capacity = 8192
        spare = np.uint64(64 - 13)
        slots = np.full(capacity, -1, np.int32)
        keys = np.empty(rows.size, np.uint64)
        count = 0
        for row in range(named.size):
            spot = np.uint64(0)
            for w in range(words):
                spot = (spot ^ (spot >> np.uint64(32)) ^ rows[row * words + w]) * GOLDEN
            spot >>= spare
            while True:
                held = peek(slots, np.int64(spot))
                if held < 0:
                    break
                equal = True
                for w in range(words):
                    equal = equal and peek(keys, np.int64(held) * words + w) == peek(rows, row * words + w)
                if equal:
                    break
                spot = (spot + np.uint64(1)) & np.uint64(capacity - 1)
            if held < 0:
                held = np.int32(count)
                slots[spot] = held
                for w in range(words):
                    keys[count * words + w] = rows[row * words + w]
                count += 1
                if 2 * count > capacity:
                    capacity *= 4
                    spare -= np.uint64(2)
                    slots = np.full(capacity, -1, np.int32)
                    rehash(slots, keys, count, words, spare)
            named[row] = held
        return keys[: count * words].copy(), slots

    return merge


@functools.cache
def make_link(fixed_words: int = 0):
    """Return the function that finds neighbours along one axis; a number of words other than 0 is compiled in."""

    @jit
    def link(words, keys, slots, step, start, stop, ahead, behind):
        """Write which vertices lie one step ahead and behind of vertices start … stop-1.

        Every vertex is ahead of at most one other, so ranges never write to the same place; both
        outputs must come filled with the number for "none".
        """
        words = fixed_words if fixed_words else words
        mask = np.uint64(slots.size - 1)
        spare = np.uint64(64)
        while np.int64(slots.size) >> np.int64(np.uint64(64) - spare) > 1:
            spare -= np.uint64(1)
        for v in range(start, stop):
            spot = np.uint64(0)
            for w in range(words):
                spot = (spot ^ (spot >> np.uint64(32)) ^ (peek(keys, v * words + w) + peek(step, w))) * GOLDEN
            spot >>= spare
            while True:
                held = np.int64(peek(slots, np.int64(spot)))
                if held < 0:
                    break
                equal = True
                for w in range(words):
                    equal = equal and peek(keys, held * words + w) == peek(keys, v * words + w) + peek(step, w)
                if equal:
                    ahead[v] = held
                    behind[held] = v
                    break
                spot = (spot + np.uint64(1)) & mask

    return link


@jit
def index_copies(named, first, copies):
    """List for each vertex the rows that are copies of it (a counting sort, so in rising order).

    `first` (vertices + 1) must come as zeros and receives where each vertex' list begins.
    """
    for row in range(named.size):
        first[named[row] + 1] += 1
    for v in range(1, first.size):
        first[v] += first[v - 1]
    place = first[:-1].copy()
    for row in range(named.size):
        v = named[row]
        copies[place[v]] = row
        place[v] += 1
