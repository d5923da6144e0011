"""Compiled half of `meanfield`: one pass from blurred vertices to splatted vertices, for a chunk of points.

For each point: slice all kernels, add the unary, softmax, splat. Beliefs are not stored unless
asked for. A row is `blocks` vectors of `lanes` labels; unused lanes hold a logit of -1e30.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from atrouscaffe.crf.vector_cpu import add, exp, fill, load, maximum, mul, muladd, peek, store, sub, total, widest
from atrouscaffe.runtime.jit import jit

__all__ = ["ingest", "make_update", "write_beliefs"]


@jit
def ingest(start, stop, order, energies, labels, points, width, logits):
    """Write rows of logits, -U less its smallest value at the point, in the order of the cut.

    Returns the first point whose energies are unusable (NaN, -inf, or all +inf), or -1.
    """
    bad = -1
    for i in range(start, stop):
        n = np.int64(order[i])
        least = energies[n]
        fine = True
        for l in range(labels):
            value = energies[l * points + n]
            least = min(least, value)
            fine = fine and value == value
        if not (fine and math.isfinite(least)):
            return n
        for l in range(labels):
            logits[i * width + l] = max(least - energies[l * points + n], np.float32(-1e30))
        for l in range(labels, width):
            logits[i * width + l] = np.float32(-1e30)
    return bad


@jit
def write_beliefs(start, stop, order, beliefs, labels, points, width, out):
    """Write a chunk's rows of beliefs to (labels, points) in the points' own order."""
    for l in range(labels):
        for i in range(start, stop):
            out[l * points + np.int64(order[i])] = beliefs[i * width + l]


@functools.cache
def make_update(lanes: int):
    """Return the mean-field pass over a chunk, compiled for vectors of `lanes` labels."""

    @jit
    def update(start, stop, row_start, row_stop, taps, kernels, tap_starts, blocks, named, vertices, logits, ids,
               weights, after, before, beliefs, partial, local, scratch, figures, first, keep, splat, relax, measure):
        """Turn the vertices' values into the next beliefs of points start … stop-1.

        Parameters
        ----------
        first : bool
            There are no messages yet: softmax of the unary alone.
        keep : bool
            Read and write `beliefs`, which relaxation and measurements need.
        splat : bool
            Spread the new beliefs into rows row_start … row_stop-1 of `partial`.
        figures : (3,) float64
            Receives expected unary, sum of beliefs times messages and negative entropy of the old beliefs.
        """
        width = lanes * blocks
        zero = fill(np.float32(0), lanes)
        if not first:  # rows of the vertices that this chunk reads, side by side
            for row in range(row_stop - row_start):
                at = np.int64(peek(named, row_start + row)) * width
                for b in range(blocks):
                    store(local, row * width + b * lanes, load(vertices, at + b * lanes, lanes))
        if splat:
            for at in range(row_start * blocks, row_stop * blocks):
                store(partial, at * lanes, zero)
        for i in range(start, stop):
            largest = fill(np.float32(-3e38), lanes)
            for b in range(blocks):
                value = load(logits, i * width + b * lanes, lanes)
                if not first:
                    for k in range(kernels):
                        message = zero
                        for t in range(i * taps + peek(tap_starts, k), i * taps + peek(tap_starts, k + 1)):
                            at = np.int64(peek(ids, t)) * width + b * lanes
                            message = muladd(fill(peek(weights, t), lanes), load(local, at, lanes), message)
                        value = muladd(fill(peek(after, i * kernels + k), lanes), message, value)
                store(scratch, b * lanes, value)
                largest = maximum(largest, value)
            if measure:
                for l in range(width):
                    q = beliefs[i * width + l]
                    if q > 0:
                        unary = logits[i * width + l]
                        figures[0] -= np.float64(q) * unary
                        figures[1] += np.float64(q) * (scratch[l] - unary)
                        figures[2] += np.float64(q) * math.log(q)
            peak = fill(widest(largest), lanes)
            mass = zero
            for b in range(blocks):
                value = exp(sub(load(scratch, b * lanes, lanes), peak))
                mass = add(mass, value)
                store(scratch, b * lanes, value)
            share = fill(np.float32(1) / total(mass), lanes)
            for b in range(blocks):
                value = mul(load(scratch, b * lanes, lanes), share)
                if keep:
                    if not first and relax != np.float32(1):
                        old = load(beliefs, i * width + b * lanes, lanes)
                        value = muladd(fill(relax, lanes), sub(value, old), old)
                    store(beliefs, i * width + b * lanes, value)
                if splat:
                    for k in range(kernels):
                        scaled = mul(fill(peek(before, i * kernels + k), lanes), value)
                        for t in range(i * taps + peek(tap_starts, k), i * taps + peek(tap_starts, k + 1)):
                            at = (row_start + np.int64(peek(ids, t))) * width + b * lanes
                            store(partial, at, muladd(fill(peek(weights, t), lanes), scaled, load(partial, at, lanes)))

    return update
