"""Compiled halves of `interp`.

``rows``, ``columns`` : (out,) int64, the upper/left source pixel of each output row/column;
``down``, ``right`` : (out,) int64, 1 or 0: how far the second source pixel is;
``lower``, ``later`` : (out,) weights of the second source pixel, in the arrays' type.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit

__all__ = ["resize_backward", "resize_forward"]


@jit
def resize_forward(planes, out, start, stop, rows, down, lower, columns, right, later):
    """Write output rows [start, stop), counted over all planes: first the rows' mix, then the columns'.

    planes : (P, H, W); out : (P, out_h, out_w).
    """
    one = planes.dtype.type(1)
    mixed = np.empty(planes.shape[2], planes.dtype)
    out_h = out.shape[1]
    for line in range(start, stop):
        p = line // out_h
        i = line % out_h
        upper = planes[p, rows[i]]
        under = planes[p, rows[i] + down[i]]
        b = lower[i]
        a = one - b
        for x in range(mixed.size):
            mixed[x] = a * upper[x] + b * under[x]
        target = out[p, i]
        for j in range(target.size):
            x = columns[j]
            target[j] = (one - later[j]) * mixed[x] + later[j] * mixed[x + right[j]]


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
