"""Compiled halves of `pool`: functions over planes [start, stop).

``geo`` is (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w).
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit

__all__ = ["average_backward", "average_forward", "max_backward", "max_forward", "max_indices"]

LOWEST = -float(np.finfo(np.float32).max)  # what Caffe's maximum starts from


@jit
def max_forward(planes, out, start, stop, geo):
    """Maximum of each window: rows of a window first, then columns.

    planes : (P, H, W); out : (P, out_h, out_w). NaN never wins, as in the original.
    """
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = geo
    height, width = planes.shape[1], planes.shape[2]
    lowest = planes.dtype.type(LOWEST)
    best = np.empty(width, planes.dtype)
    for p in range(start, stop):
        for oy in range(out.shape[1]):
            y0 = oy * stride_h - pad_h
            y1 = min(y0 + kernel_h, height)
            best[:] = lowest
            for y in range(max(y0, 0), y1):
                row = planes[p, y]
                for x in range(width):
                    best[x] = row[x] if row[x] > best[x] else best[x]
            target = out[p, oy]
            for ox in range(out.shape[2]):
                x0 = ox * stride_w - pad_w
                x1 = min(x0 + kernel_w, width)
                value = lowest
                for x in range(max(x0, 0), x1):
                    value = best[x] if best[x] > value else value
                target[ox] = value


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
def average_forward(planes, out, start, stop, geo):
    """Sum of each window over its size, the window clipped at n + pad: padding counts as zeros."""
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = geo
    height, width = planes.shape[1], planes.shape[2]
    total = np.empty(width, planes.dtype)
    for p in range(start, stop):
        for oy in range(out.shape[1]):
            y0 = oy * stride_h - pad_h
            y1 = min(y0 + kernel_h, height + pad_h)
            tall = y1 - y0
            total[:] = 0
            for y in range(max(y0, 0), min(y1, height)):
                row = planes[p, y]
                for x in range(width):
                    total[x] += row[x]
            target = out[p, oy]
            for ox in range(out.shape[2]):
                x0 = ox * stride_w - pad_w
                x1 = min(x0 + kernel_w, width + pad_w)
                size = tall * (x1 - x0)
                value = planes.dtype.type(0)
                for x in range(max(x0, 0), min(x1, width)):
                    value += total[x]
                target[ox] = value / size if tall > 0 and x1 > x0 else 0


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
