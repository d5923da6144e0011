"""Compiled half of `lattice`: which simplex a point lies in, the vertices' hash table, neighbours.

A vertex is named by its first d integer coordinates k, packed into `words` 64-bit integers as
digits of a mixed radix: sum over i of (k_i - low_i) * factor_i. The radices are wide enough for
every vertex and its neighbours, so digits never carry and a step on the lattice is the addition of
a constant. Tables use open addressing in a power of two of slots, at most half full.
"""

from __future__ import annotations

import functools

import numpy as np

from atrouscaffe.crf.vector_cpu import add, fill, less, load, mul, peek, poke, rint, store, sub
from atrouscaffe.runtime.jit import jit

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


@functools.cache
def make_embed(fixed_dims: int = 0, fixed_words: int = 0):
    """Return the function that embeds a chunk of points; numbers other than 0 are compiled in."""

    @jit
    def embed(dims, words, features, points, order, start, stop, scale, steps, low, factor, ids, weights):
        """Write vertex numbers (within the chunk) and barycentric weights of points start … stop-1.

        Returns the keys of the chunk's vertices, `words` numbers each, in order of first use.
        """
        dims = fixed_dims if fixed_dims else dims
        words = fixed_words if fixed_words else words
        taps = dims + 1
        span = np.uint64(dims + 1)
        inverse = steps[dims + 2]
        capacity = 8192
        spare = np.uint64(64 - 13)  # bits of a hash beyond the table's
        slots = np.full(capacity, -1, np.int32)
        keys = np.empty(capacity * words, np.uint64)
        count = 0
        elevated = np.empty(taps * LANES, scale.dtype)
        nearest = np.empty(taps * LANES, scale.dtype)
        rank = np.empty(taps * LANES, scale.dtype)
        residue = np.empty(taps * LANES, scale.dtype)
        at_rank = np.zeros(taps + 1, np.int64)  # axis whose residue has this rank
        before = np.full(taps + 1, -1, np.int64)
        sorted_residue = np.empty(taps + 1, scale.dtype)
        base = np.zeros(words, np.uint64)
        key = np.zeros(words, np.uint64)
        ones = np.zeros(words, np.uint64)  # a step of +1 in every coordinate
        for i in range(dims):
            for w in range(words):
                ones[w] += factor[i * words + w]
        last_ids = np.zeros(taps, np.int32)
        for block in range(start, stop, LANES):
            lanes = min(LANES, stop - block)
            # elevate: from d features to d + 1 coordinates that sum to 0
            partial = fill(steps[0], LANES)
            for j in range(dims, 0, -1):
                at = (j - 1) * LANES
                for lane in range(LANES):
                    p = peek(order, block + min(lane, lanes - 1))
                    poke(residue, at + lane, peek(features, (j - 1) * points + p))
                part = mul(load(residue, at, LANES), fill(scale[j - 1], LANES))
                store(elevated, j * LANES, sub(partial, mul(fill(steps[j], LANES), part)))
                partial = add(partial, part)
            store(elevated, 0, partial)
            # the nearest vertex whose coordinates are all multiples of d + 1
            excess = fill(steps[0], LANES)
            for i in range(taps):
                whole = rint(mul(fill(inverse, LANES), load(elevated, i * LANES, LANES)))
                store(nearest, i * LANES, mul(whole, fill(steps[dims + 1], LANES)))
                store(residue, i * LANES, sub(load(elevated, i * LANES, LANES), load(nearest, i * LANES, LANES)))
                store(rank, i * LANES, fill(steps[0], LANES))
                excess = add(excess, whole)
            for i in range(dims):
                mine = load(residue, i * LANES, LANES)
                gained = load(rank, i * LANES, LANES)
                for j in range(i + 1, taps):
                    smaller = less(mine, load(residue, j * LANES, LANES))
                    gained = add(gained, smaller)
                    other = add(load(rank, j * LANES, LANES), sub(fill(steps[1], LANES), smaller))
                    store(rank, j * LANES, other)
                store(rank, i * LANES, gained)
            # coordinates that do not sum to 0: bring the vertex back onto the plane
            for i in range(taps):
                moved = add(load(rank, i * LANES, LANES), excess)
                up = less(moved, fill(steps[0], LANES))
                down = less(fill(steps[dims], LANES), moved)
                shift = mul(sub(up, down), fill(steps[dims + 1], LANES))
                store(rank, i * LANES, add(moved, shift))
                vertex = add(load(nearest, i * LANES, LANES), shift)
                store(nearest, i * LANES, vertex)
                away = sub(load(elevated, i * LANES, LANES), vertex)
                store(residue, i * LANES, mul(away, fill(inverse, LANES)))
            for lane in range(lanes):
                same = True
                for i in range(taps):
                    r = np.int64(peek(rank, i * LANES + lane))
                    r = min(max(r, 0), dims)
                    poke(at_rank, r, i)
                    poke(sorted_residue, r, peek(residue, i * LANES + lane))
                for r in range(taps):
                    same = same and peek(before, r) == peek(at_rank, r)
                    poke(before, r, peek(at_rank, r))
                for w in range(words):
                    name = np.uint64(0)
                    for i in range(dims):
                        digit = np.int64(peek(nearest, i * LANES + lane)) - peek(low, i)
                        name += np.uint64(digit) * peek(factor, i * words + w)
                    same = same and name == peek(base, w)
                    poke(base, w, name)
                    poke(key, w, name)
                at = (block + lane) * taps
                poke(weights, at, sorted_residue[dims] + (steps[1] - sorted_residue[0]))
                for r in range(1, taps):
                    poke(weights, at + r, sorted_residue[dims - r] - sorted_residue[dims - r + 1])
                if same and block + lane > start:
                    for r in range(taps):
                        poke(ids, at + r, peek(last_ids, r))
                    continue
                for r in range(taps):
                    if r > 0:
                        axis = peek(at_rank, dims - r + 1)
                        for w in range(words):
                            name = peek(key, w) + peek(ones, w)
                            if axis < dims:
                                name -= span * peek(factor, axis * words + w)
                            poke(key, w, name)
                    spot = np.uint64(0)
                    for w in range(words):
                        spot = (spot ^ (spot >> np.uint64(32)) ^ peek(key, w)) * GOLDEN
                    spot >>= spare
                    found = np.int32(-1)
                    while True:
                        found = peek(slots, np.int64(spot))
                        if found < 0:
                            break
                        equal = True
                        for w in range(words):
                            equal = equal and peek(keys, np.int64(found) * words + w) == peek(key, w)
                        if equal:
                            break
                        spot = (spot + np.uint64(1)) & np.uint64(capacity - 1)
                    if found < 0:
                        found = np.int32(count)
                        poke(slots, np.int64(spot), found)
                        if (count + 1) * words > keys.size:
                            grown = np.empty(2 * keys.size, np.uint64)
                            grown[:keys.size] = keys
                            keys = grown
                        for w in range(words):
                            poke(keys, count * words + w, peek(key, w))
                        count += 1
                        if 2 * count > capacity:
                            capacity *= 2
                            spare -= np.uint64(1)
                            slots = np.full(capacity, -1, np.int32)
                            rehash(slots, keys, count, words, spare)
                    poke(last_ids, r, found)
                    poke(ids, at + r, found)
        return keys[: count * words].copy()

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
