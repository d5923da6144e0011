"""References in plain float64 loops, written from the definitions and from nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np


def conv(x, weight, bias, kernel, stride, pad, hole, group=1):
    """Convolution over any number of axes; options are tuples, one entry an axis."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    out = tuple((n + 2 * p - ((k - 1) * h + 1)) // s + 1
                for n, k, s, p, h in zip(x.shape[2:], kernel, stride, pad, hole))
    outputs, per_in = weight.shape[:2]
    per_out = outputs // group
    y = np.zeros((x.shape[0], outputs, *out))
    for n, m in itertools.product(range(x.shape[0]), range(outputs)):
        first = m // per_out * per_in
        for place in itertools.product(*map(range, out)):
            total = 0.0 if bias is None else float(bias[m])
            for tap in itertools.product(*map(range, kernel)):
                at = tuple(o * s + t * h - p for o, s, t, h, p in zip(place, stride, tap, hole, pad))
                if all(0 <= a < size for a, size in zip(at, x.shape[2:])):
                    for c in range(per_in):
                        total += weight[(m, c, *tap)] * x[(n, first + c, *at)]
            y[(n, m, *place)] = total
    return y


def conv_gradients(x, weight, dy, kernel, stride, pad, hole, group=1):
    """Return (dx, dweight, dbias) of `conv`."""
    x, weight, dy = (np.asarray(a, np.float64) for a in (x, weight, dy))
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    outputs, per_in = weight.shape[:2]
    per_out = outputs // group
    for n, m in itertools.product(range(x.shape[0]), range(outputs)):
        first = m // per_out * per_in
        for place in itertools.product(*map(range, dy.shape[2:])):
            top = dy[(n, m, *place)]
            for tap in itertools.product(*map(range, kernel)):
                at = tuple(o * s + t * h - p for o, s, t, h, p in zip(place, stride, tap, hole, pad))
                if all(0 <= a < size for a, size in zip(at, x.shape[2:])):
                    for c in range(per_in):
                        dx[(n, first + c, *at)] += weight[(m, c, *tap)] * top
                        dweight[(m, c, *tap)] += x[(n, first + c, *at)] * top
    return dx, dweight, dy.sum(axis=(0, *range(2, dy.ndim)))


def pool_windows(size, kernel, stride, pad, out):
    """Yield for one axis (output, first pixel, end pixel, divisor) by Caffe's rules."""
    for o in range(out):
        start = o * stride - pad
        end = min(start + kernel, size + pad)
        yield o, max(start, 0), min(end, size), end - start


def pool(x, kernel, stride, pad, out, kind):
    """Return (y, mask) of a MAX or AVE pooling to the given output size."""
    x = np.asarray(x, np.float64)
    height, width = x.shape[2:]
    y, mask = np.zeros((*x.shape[:2], *out)), np.full((*x.shape[:2], *out), -1)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[1])):
        for oy, y0, y1, tall in pool_windows(height, kernel[0], stride[0], pad[0], out[0]):
            for ox, x0, x1, wide in pool_windows(width, kernel[1], stride[1], pad[1], out[1]):
                if kind == "AVE":
                    y[n, c, oy, ox] = sum(x[n, c, a, b] for a in range(y0, y1) for b in range(x0, x1)) / (tall * wide)
                    continue
                best = -np.inf
                for a, b in itertools.product(range(y0, y1), range(x0, x1)):
                    if x[n, c, a, b] > best:
                        best = x[n, c, a, b]
                        mask[n, c, oy, ox] = a * width + b
                y[n, c, oy, ox] = best
    return y, mask


def interp(x, out, crop=(0, 0)):
    """Bilinear resizing with aligned corners, positions in float64."""
    x = np.asarray(x, np.float64)
    x = x[:, :, crop[0] : x.shape[2] - crop[1], crop[0] : x.shape[3] - crop[1]]
    y = np.zeros((*x.shape[:2], *out))
    for i, j in itertools.product(range(out[0]), range(out[1])):
        a = i * (x.shape[2] - 1) / (out[0] - 1) if out[0] > 1 else 0.0
        b = j * (x.shape[3] - 1) / (out[1] - 1) if out[1] > 1 else 0.0
        a0, b0 = min(math.floor(a), x.shape[2] - 1), min(math.floor(b), x.shape[3] - 1)
        a1, b1 = min(a0 + 1, x.shape[2] - 1), min(b0 + 1, x.shape[3] - 1)
        p, q = a - a0, b - b0
        y[:, :, i, j] = ((1 - p) * ((1 - q) * x[:, :, a0, b0] + q * x[:, :, a0, b1])
                         + p * ((1 - q) * x[:, :, a1, b0] + q * x[:, :, a1, b1]))
    return y


def lrn_across(x, size, alpha, beta, k):
    """Local response normalisation across channels."""
    x = np.asarray(x, np.float64)
    y = np.zeros_like(x)
    half = (size - 1) // 2
    for c in range(x.shape[1]):
        low, high = max(0, c - half), min(x.shape[1], c + half + 1)
        y[:, c] = x[:, c] * (k + alpha / size * (x[:, low:high] ** 2).sum(axis=1)) ** -beta
    return y


def lrn_within(x, size, alpha, beta):
    """Local response normalisation within each channel; the window always counts size*size pixels."""
    x = np.asarray(x, np.float64)
    y = np.zeros_like(x)
    half = (size - 1) // 2
    for i, j in itertools.product(range(x.shape[2]), range(x.shape[3])):
        part = x[:, :, max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
        y[:, :, i, j] = x[:, :, i, j] * (1 + alpha / size**2 * (part**2).sum(axis=(2, 3))) ** -beta
    return y
