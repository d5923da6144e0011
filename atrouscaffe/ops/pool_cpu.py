"""Compiled halves of `pool`: functions over planes [start, stop).

``geo`` is (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w).
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import add, div, fill, load, maximum, memory, mul, peek, poke, store, unzip

__all__ = ["average_backward", "max_backward", "max_indices", "pool_forward"]

LOWEST = -float(np.finfo(np.float32).max)  # what Caffe's maximum starts from


@jit(inline="always")
def _taken(value, best, maximal):
    """Return the larger number, or the sum."""
    if maximal:
        return value if value > best else best
    return value + best


@jit
def _fold_rows(planes, at, first, last, width, row, to, start, maximal):
    """Write the maximum or the sum of rows [first, last) of the plane that begins at `at`."""
    begin = fill(start, 16)
    x = 0
    while x < width:
        if width < 16:
            best = start
            for y in range(first, last):
                best = _taken(peek(planes, at + y * width + x), best, maximal)
            poke(row, to + x, best)
            x += 1
        else:
            x = min(x, width - 16)
            lanes = begin
            for y in range(first, last):
                value = load(planes, at + y * width + x, 16)
                lanes = maximum(value, lanes) if maximal else add(value, lanes)
            store(row, to + x, lanes)
            x += 16


@jit
def pool_forward(planes, out, start, stop, geo, maximal):
    """Maximum of each window, or sum over size; rows of a window first, then columns.

    planes : (P, H, W); out : (P, out_h, out_w). In a maximum NaN never wins, as in the original. In an average padding
    counts as zeros; windows are clipped at n + pad.
    """
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = geo
    height, width, out_h, out_w = planes.shape[1], planes.shape[2], out.shape[1], out.shape[2]
    least = planes.dtype.type(LOWEST if maximal else 0)
    length = (max(pad_w + width, (out_w + 16) * stride_w + kernel_w) // 32 + 1) * 32
    rows, sizes = np.full(2 * length, least, planes.dtype), np.ones(out_w, planes.dtype)
    for ox in range(out_w):
        sizes[ox] = max(1, min(ox * stride_w + kernel_w, width + 2 * pad_w) - ox * stride_w)
    planes_, out_, rows_, sizes_ = memory(planes), memory(out), memory(rows), memory(sizes)
    for line in range(start * out_h, stop * out_h):
        y0 = line % out_h * stride_h - pad_h
        y1 = min(y0 + kernel_h, height + pad_h)
        tall = planes.dtype.type(max(1, y1 - y0))
        _fold_rows(planes_, line // out_h * height * width, max(y0, 0), min(y1, height), width, rows_, pad_w, least,
                   maximal)
        if stride_w == 2:
            for x in range(0, length, 32):
                unzip(rows_, x, rows_, length + x // 2, length + length // 2 + x // 2)
        j = 0
        while j < out_w:
            if out_w < 16 or stride_w > 2:
                best = least
                for t in range(kernel_w):
                    best = _taken(peek(rows_, j * stride_w + t), best, maximal)
                poke(out_, line * out_w + j, best if maximal else best / (tall * sizes[j]))
                j += 1
            else:
                j = min(j, out_w - 16)
                lanes = fill(least, 16)
                for t in range(kernel_w):
                    place = t + j if stride_w == 1 else length + t % 2 * (length // 2) + t // 2 + j
                    value = load(rows_, place, 16)
                    lanes = maximum(value, lanes) if maximal else add(value, lanes)
                if not maximal:
                    lanes = div(lanes, mul(fill(tall, 16), load(sizes_, j, 16)))
                store(out_, line * out_w + j, lanes)
                j += 16


@jit
def max_indices(planes, indices, start, stop, geo):
    """Index ``y*W + x`` of each window's first maximum in row-major order; -1 where nothing beats `LOWEST`.

    planes : (P, H, W); indices : (P, out_h, out_w) int32.
    """
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = geo
    height, width = planes.shape[1], planes.shape[2]
    for p in range(start, stop):
        for oy in range(indices.shape[1]):
            y0 = oy * stride_h - pad_h
            y1 = min(y0 + kernel_h, height)
            y0 = max(y0, 0)
            for ox in range(indices.shape[2]):
                x0 = ox * stride_w - pad_w
                x1 = min(x0 + kernel_w, width)
                x0 = max(x0, 0)
                value = planes.dtype.type(LOWEST)
                index = -1
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        if planes[p, y, x] > value:
                            value = planes[p, y, x]
                            index = y * width + x
                indices[p, oy, ox] = index


@jit
def max_backward(gradients, indices, planes, start, stop):
    """Add each window's gradient to the pixel `indices` names; planes (P, H, W) are overwritten."""
    width = planes.shape[2]
    for p in range(start, stop):
        planes[p, :, :] = 0
        for oy in range(gradients.shape[1]):
            for ox in range(gradients.shape[2]):
                index = indices[p, oy, ox]
                if index >= 0:
                    planes[p, index // width, index % width] += gradients[p, oy, ox]


@jit
def average_backward(gradients, planes, start, stop, geo):
    """Spread each window's gradient evenly; planes (P, H, W) are overwritten."""
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = geo
    height, width = planes.shape[1], planes.shape[2]
    share = np.empty(width, planes.dtype)
    for p in range(start, stop):
        planes[p, :, :] = 0
        for oy in range(gradients.shape[1]):
            y0 = oy * stride_h - pad_h
            y1 = min(y0 + kernel_h, height + pad_h)
            tall = y1 - y0
            share[:] = 0
            for ox in range(gradients.shape[2]):
                x0 = ox * stride_w - pad_w
                x1 = min(x0 + kernel_w, width + pad_w)
                if tall > 0 and x1 > x0:
                    value = gradients[p, oy, ox] / (tall * (x1 - x0))
                    for x in range(max(x0, 0), min(x1, width)):
                        share[x] += value
            for y in range(max(y0, 0), min(y1, height)):
                row = planes[p, y]
                for x in range(width):
                    row[x] += share[x]
