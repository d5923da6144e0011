"""Compiled halves of `interp`.

``rows``, ``columns`` : (out,) int64, the upper/left source pixel of each output row/column;
``down``, ``right`` : (out,) int64, 1 or 0: how far the second source pixel is (in `resize_forward`, ``right`` is the
second source pixel);
``lower``, ``later`` : (out,) weights of the second source pixel, in the arrays' type.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import add, fill, gather, load, memory, mul, poke, store, sub

__all__ = ["resize_backward", "resize_forward"]


@jit
def resize_forward(planes, out, start, stop, rows, down, lower, columns, right, later):
    """Write output rows [start, stop), counted over all planes: first the rows' mix, then the columns'.

    planes : (P, H, W); out : (P, out_h, out_w), contiguous; here columns and right are int32.
    """
    one = planes.dtype.type(1)
    mixed = np.empty(planes.shape[2], planes.dtype)
    out_h, out_w = out.shape[1], out.shape[2]
    flat, mixed_, columns_, right_, later_ = memory(out), memory(mixed), memory(columns), memory(right), memory(later)
    ones = fill(one, 16)
    for line in range(start, stop):
        p = line // out_h
        i = line % out_h
        upper = planes[p, rows[i]]
        under = planes[p, rows[i] + down[i]]
        b = lower[i]
        a = one - b
        for x in range(mixed.size):
            mixed[x] = a * upper[x] + b * under[x]
        at = line * out_w
        j = 0
        while j + 16 <= out_w:
            share = load(later_, j, 16)
            near, far = gather(mixed_, columns_, j), gather(mixed_, right_, j)
            store(flat, at + j, add(mul(sub(ones, share), near), mul(share, far)))
            j += 16
        while j < out_w:
            poke(flat, at + j, (one - later[j]) * mixed[columns[j]] + later[j] * mixed[right[j]])
            j += 1


@jit
def resize_backward(gradients, planes, start, stop, rows, down, lower, columns, right, later):
    """Add to planes [start, stop) the adjoint of `resize_forward`."""
    one = planes.dtype.type(1)
    mixed = np.empty(planes.shape[2], planes.dtype)
    for p in range(start, stop):
        for i in range(gradients.shape[1]):
            mixed[:] = 0
            source = gradients[p, i]
            for j in range(source.size):
                x = columns[j]
                mixed[x] += (one - later[j]) * source[j]
                mixed[x + right[j]] += later[j] * source[j]
            upper = planes[p, rows[i]]
            b = lower[i]
            a = one - b
            for x in range(mixed.size):
                upper[x] += a * mixed[x]
            under = planes[p, rows[i] + down[i]]
            for x in range(mixed.size):
                under[x] += b * mixed[x]
