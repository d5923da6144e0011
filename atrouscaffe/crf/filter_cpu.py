"""Compiled half of filtering on the lattice: splat, merge, blur, slice on rows of channels.

A row holds the channels of one point or vertex, `blocks` vectors of `lanes`. Each chunk of points
splats into rows of its own (copies of vertices), which `merge` then gathers: no two threads write
to the same place, and the order of additions is fixed.
"""

from __future__ import annotations

import functools

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import add, fill, load, mul, muladd, peek, prefetch, store

__all__ = ["make_blur", "make_merge_rows", "make_slice", "make_splat", "own_weights"]

AHEAD = 24  # copies: how long a row of another chunk takes to arrive


@functools.cache
def make_splat(lanes: int):
    """Return the function that spreads a chunk's points over its copies of vertices."""

    @jit
    def splat(start, stop, row_start, row_stop, dims, blocks, values, ids, weights, partial):
        zero = fill(partial.dtype.type(0), lanes)
        for at in range(row_start * blocks, row_stop * blocks):
            store(partial, at * lanes, zero)
        for i in range(start, stop):
            left = partial.dtype.type(1)
            for t in range(dims, -1, -1):
                share = left
                if t > 0:
                    share = partial.dtype.type(peek(weights, i * dims + t - 1))
                    left -= share
                weight = fill(share, lanes)
                to = (row_start + np.int64(peek(ids, i * (dims + 1) + t))) * blocks
                for b in range(blocks):
                    at = (to + b) * lanes
                    value = load(values, (i * blocks + b) * lanes, lanes)
                    store(partial, at, muladd(weight, value, load(partial, at, lanes)))

    return splat


@functools.cache
def make_merge_rows(lanes: int):
    """Return the function that adds up the copies of vertices start … stop-1."""

    @jit
    def merge_rows(start, stop, blocks, first, copies, partial, out):
        for v in range(start, stop):
            begin, end = np.int64(peek(first, v)), np.int64(peek(first, v + 1))
            for c in range(begin, min(end, copies.size - AHEAD)):
                prefetch(partial, np.int64(peek(copies, c + AHEAD)) * blocks * lanes)
            for b in range(blocks):
                value = load(partial, (np.int64(peek(copies, begin)) * blocks + b) * lanes, lanes)
                for c in range(begin + 1, end):
                    value = add(value, load(partial, (np.int64(peek(copies, c)) * blocks + b) * lanes, lanes))
                store(out, (v * blocks + b) * lanes, value)

    return merge_rows


@functools.cache
def make_blur(lanes: int):
    """Return the function that blurs vertices start … stop-1 along one axis with [1/2 1 1/2]."""

    @jit
    def blur(start, stop, blocks, ahead, behind, source, target):
        half = fill(source.dtype.type(0.5), lanes)
        for v in range(start, stop):
            one = np.int64(peek(ahead, v)) * blocks
            two = np.int64(peek(behind, v)) * blocks
            for b in range(blocks):
                at = (v * blocks + b) * lanes
                pair = add(load(source, (one + b) * lanes, lanes), load(source, (two + b) * lanes, lanes))
                store(target, at, muladd(half, pair, load(source, at, lanes)))

    return blur


@functools.cache
def make_slice(lanes: int):
    """Return the function that interpolates a chunk's points from the vertices."""

    @jit
    def slice_rows(start, stop, row_start, dims, blocks, named, values, ids, weights, out, factor):
        scale = fill(out.dtype.type(factor), lanes)
        for i in range(start, stop):
            for b in range(blocks):
                value = fill(out.dtype.type(0), lanes)
                left = out.dtype.type(1)
                for t in range(dims, -1, -1):
                    share = left
                    if t > 0:
                        share = out.dtype.type(peek(weights, i * dims + t - 1))
                        left -= share
                    vertex = np.int64(peek(named, row_start + np.int64(peek(ids, i * (dims + 1) + t))))
                    weight = fill(share, lanes)
                    value = muladd(weight, load(values, (vertex * blocks + b) * lanes, lanes), value)
                store(out, (i * blocks + b) * lanes, mul(scale, value))

    return slice_rows


@jit
def own_weights(start, stop, row_start, named, ids, weights, neighbours, out):
    """Write how much of each point's own value comes back to it, without the factor alpha.

    A step on the lattice in every axis leads back to the start. So only two ways lead from vertex
    a of a simplex to its vertex b: behind along the axes between them, or ahead along all others;
    the blur goes them in the order of the axes, and not through missing vertices.
    """
    taps, missing = ids.shape[1], neighbours.shape[2]
    corner = np.empty(taps, np.int64)
    share_of = np.empty(taps)
    place = np.zeros(taps, np.int64)  # at which corner each axis is left
    for i in range(start, stop):
        share_of[0] = 1.0
        for r in range(taps):
            corner[r] = named[row_start + ids[i, r]]
            if r > 0:
                share_of[r] = weights[i, r - 1]
                share_of[0] -= share_of[r]
        place[:] = taps - 1
        for r in range(taps - 1):
            for j in range(taps):
                if neighbours[j, 1, corner[r]] == corner[r + 1]:
                    place[j] = r
        total = 0.0
        for a in range(taps):
            for b in range(taps):
                first, last = min(a, b), max(a, b)
                reached = 0.0
                for way in range(2):  # the axes from a to b, then all others in the other direction
                    side = 1 if (b > a) == (way == 0) or (a == b and way == 0) else 0
                    v, share = corner[a], 1.0
                    for j in range(taps):
                        between = first <= place[j] < last
                        if between == (way == 0) and v != missing:
                            v = neighbours[j, side, v]
                            share *= 0.5
                    if v != missing:
                        reached += share
                if a == b:  # the ways above were no axis, and all behind; a third is all ahead
                    v = corner[a]
                    for j in range(taps):
                        if v != missing:
                            v = neighbours[j, 0, v]
                    if v != missing:
                        reached += 0.5**taps
                total += share_of[a] * share_of[b] * reached
        out[i] = total
