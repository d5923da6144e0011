"""Compiled halves of `im2col` and of convolutions that need no columns.

``geo`` is always (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w). The
pixel that tap t of output pixel o reads is ``o*stride + t*hole - pad``; so the outputs that read
inside a row of W pixels are ``ceil(-d/stride) <= o < ceil((W-d)/stride)`` with ``d = t*hole - pad``.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.jit import jit
from atrouscaffe.runtime.vector_cpu import fill, load, memory, peek, poke, store

__all__ = ["add_columns", "direct_adjoint", "direct_forward", "direct_weight", "fill_columns",
           "sample_holes", "sample_pixels"]


@jit(inline="always")
def _span(d, stride, size, first, last):
    """Outputs of [first, last) whose tap at distance `d` lies in a row of `size` pixels."""
    low = -((d) // stride) if d < 0 else 0
    high = (size - d + stride - 1) // stride if size > d else 0
    low = min(max(low, first), last)
    return low, max(min(high, last), low)


@jit
def fill_columns(image, columns, row0, pixel0, out_w, geo):
    """Write ``columns[r, p]`` = what row ``row0+r`` of the column matrix holds for pixel ``pixel0+p``.

    image : (C, H, W); columns : (rows, pixels); rows run over (channel, tap_h, tap_w).
    """
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w = geo
    height, width = image.shape[1], image.shape[2]
    taps = kernel_h * kernel_w
    end = pixel0 + columns.shape[1]
    for r in range(columns.shape[0]):
        channel = (row0 + r) // taps
        tap = (row0 + r) % taps
        dy = (tap // kernel_w) * hole_h - pad_h
        dx = (tap % kernel_w) * hole_w - pad_w
        pixel = pixel0
        while pixel < end:
            oy = pixel // out_w
            x0 = pixel - oy * out_w
            x1 = min(out_w, x0 + end - pixel)
            target = columns[r, pixel - pixel0 : pixel - pixel0 + x1 - x0]
            iy = oy * stride_h + dy
            pixel += x1 - x0
            if iy < 0 or iy >= height:
                target[:] = 0
                continue
            low, high = _span(dx, stride_w, width, x0, x1)
            target[: low - x0] = 0
            target[high - x0 :] = 0
            if low == high:
                continue
            source = image[channel, iy, low * stride_w + dx : (high - 1) * stride_w + dx + 1]
            inner = target[low - x0 : high - x0]
            if stride_w == 1:
                for x in range(inner.size):
                    inner[x] = source[x]
            else:
                for x in range(inner.size):
                    inner[x] = source[x * stride_w]


@jit
def sample_holes(images, at, shape, k0, k1, pixel0, pixels, out_w, geo, target, ld):
    """Write rows [k0, k1) of the column matrix, ordered (tap, channel), for a run of output pixels.

    This is the hole algorithm's im2col in the form that the matrix kernel reads: row k of `target`, `ld` apart, holds
    `pixels` numbers, and up to 15 more are written over.

    Parameters
    ----------
    images : float32 array, flat
    at : int
        Where channel 0 begins.
    shape : (channels, height, width)
    """
    _, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w = geo
    channels, height, width = shape
    source, goal, total = memory(images), memory(target), images.size
    k = k0
    while k < k1:
        tap, c0 = k // channels, k % channels
        c1 = min(channels, c0 + k1 - k)
        dy, dx = (tap // kernel_w) * hole_h - pad_h, (tap % kernel_w) * hole_w - pad_w
        pixel = pixel0
        while pixel < pixel0 + pixels:
            oy = pixel // out_w
            x0 = pixel - oy * out_w
            x1 = min(out_w, x0 + pixel0 + pixels - pixel)
            iy = oy * stride_h + dy
            low, high = _span(dx, stride_w, width, x0, x1)
            if iy < 0 or iy >= height or low == high:
                low = high = x1
            for c in range(c0, c1):
                to = (k - k0 + c - c0) * ld + pixel - pixel0 - x0
                _clear(goal, to + x0, low - x0)
                if low < high:
                    place = at + (c * height + iy) * width + low * stride_w + dx
                    _copy(source, place, total, stride_w, goal, to + low, high - low)
                    _clear(goal, to + high, x1 - high)
            pixel += x1 - x0
        k += c1 - c0


@jit
def sample_pixels(images, at, plane, k0, k1, pixel0, pixels, width, target):
    """Write channels [k0, k1) of a run of pixels as panels of `width` columns, each k after k, for a 1x1 kernel.

    Parameters
    ----------
    images : float32 array, flat
    at : int
        Where channel 0 begins; channels are `plane` apart.
    width : int
        A multiple of 16.
    target : float32 array
        Column j of row k lies at ``(j // width * (k1 - k0) + k - k0) * width + j % width``.
    """
    source, goal, total = memory(images), memory(target), images.size
    for k in range(k0, k1):
        place = at + k * plane + pixel0
        for j in range(0, pixels, width):
            to = (j // width * (k1 - k0) + k - k0) * width
            _copy(source, place + j, total, 1, goal, to, min(width, pixels - j))


@jit(inline="always")
def _clear(target, to, count):
    """Write zeros, up to 15 more than `count`."""
    zeros = fill(np.float32(0), 16)
    for x in range(0, count, 16):
        store(target, to + x, zeros)


@jit(inline="always")
def _copy(source, at, total, stride, target, to, count):
    """Copy `count` numbers, `stride` apart in the source, which has `total`; up to 15 more are written."""
    if stride == 1 and at + count + 15 <= total:
        for x in range(0, count, 16):
            store(target, to + x, load(source, at + x, 16))
    else:
        for x in range(count):
            poke(target, to + x, peek(source, at + x * stride))


@jit
def add_columns(columns, image, row0, pixel0, out_w, geo):
    """Add every entry of `columns` to the pixel it came from: the adjoint of `fill_columns`."""
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w = geo
    height, width = image.shape[1], image.shape[2]
    taps = kernel_h * kernel_w
    end = pixel0 + columns.shape[1]
    for r in range(columns.shape[0]):
        channel = (row0 + r) // taps
        tap = (row0 + r) % taps
        dy = (tap // kernel_w) * hole_h - pad_h
        dx = (tap % kernel_w) * hole_w - pad_w
        pixel = pixel0
        while pixel < end:
            oy = pixel // out_w
            x0 = pixel - oy * out_w
            x1 = min(out_w, x0 + end - pixel)
            low, high = _span(dx, stride_w, width, x0, x1)
            iy = oy * stride_h + dy
            source = columns[r, pixel - pixel0 + low - x0 : pixel - pixel0 + high - x0]
            pixel += x1 - x0
            if iy < 0 or iy >= height or low == high:
                continue
            target = image[channel, iy, low * stride_w + dx : (high - 1) * stride_w + dx + 1]
            if stride_w == 1:
                for x in range(source.size):
                    target[x] += source[x]
            else:
                for x in range(source.size):
                    target[x * stride_w] += source[x]


@jit
def direct_forward(images, weight, bias, out, start, stop, geo):
    """Convolve output planes [start, stop) of all (image, output channel) pairs, without columns.

    images : (N, C, H, W); weight : (M, C/group, kernel_h, kernel_w); bias : (M,) or (0,);
    out : (N, M, out_h, out_w).
    """
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w = geo
    height, width = images.shape[2], images.shape[3]
    outputs, out_h, out_w = out.shape[1], out.shape[2], out.shape[3]
    per_in = weight.shape[1]
    per_out = outputs // (images.shape[1] // per_in)
    for plane in range(start, stop):
        n = plane // outputs
        m = plane % outputs
        first = m // per_out * per_in
        for oy in range(out_h):
            target = out[n, m, oy]
            target[:] = bias[m] if bias.size else weight.dtype.type(0)
            for c in range(per_in):
                for ty in range(kernel_h):
                    iy = oy * stride_h + ty * hole_h - pad_h
                    if iy < 0 or iy >= height:
                        continue
                    for tx in range(kernel_w):
                        dx = tx * hole_w - pad_w
                        low, high = _span(dx, stride_w, width, 0, out_w)
                        if low == high:
                            continue
                        w = weight[m, c, ty, tx]
                        source = images[n, first + c, iy, low * stride_w + dx : (high - 1) * stride_w + dx + 1]
                        inner = target[low:high]
                        if stride_w == 1:
                            for x in range(inner.size):
                                inner[x] += w * source[x]
                        else:
                            for x in range(inner.size):
                                inner[x] += w * source[x * stride_w]


@jit
def direct_adjoint(tops, weight, bias, images, start, stop, geo):
    """Write planes [start, stop) of all (image, input channel) pairs: the adjoint of `direct_forward`.

    tops : (N, M, out_h, out_w); images : (N, C, H, W), overwritten; bias : (C,) or (0,).
    """
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w = geo
    inputs, height, width = images.shape[1], images.shape[2], images.shape[3]
    outputs, out_h, out_w = tops.shape[1], tops.shape[2], tops.shape[3]
    per_in = weight.shape[1]
    per_out = outputs // (inputs // per_in)
    for plane in range(start, stop):
        n = plane // inputs
        channel = plane % inputs
        c = channel % per_in
        images[n, channel, :, :] = bias[channel] if bias.size else weight.dtype.type(0)
        first = channel // per_in * per_out
        for oy in range(out_h):
            for m in range(first, first + per_out):
                for ty in range(kernel_h):
                    iy = oy * stride_h + ty * hole_h - pad_h
                    if iy < 0 or iy >= height:
                        continue
                    for tx in range(kernel_w):
                        dx = tx * hole_w - pad_w
                        low, high = _span(dx, stride_w, width, 0, out_w)
                        if low == high:
                            continue
                        w = weight[m, c, ty, tx]
                        source = tops[n, m, oy, low:high]
                        target = images[n, channel, iy, low * stride_w + dx : (high - 1) * stride_w + dx + 1]
                        if stride_w == 1:
                            for x in range(source.size):
                                target[x] += w * source[x]
                        else:
                            for x in range(source.size):
                                target[x * stride_w] += w * source[x]


@jit(fastmath={"reassoc", "contract"})
def direct_weight(images, tops, gradient, start, stop, geo):
    """Add to ``gradient[start:stop]`` what `direct_forward`'s weights of these output channels get.

    Rows are summed in the arrays' type, rows among each other in float64.
    """
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w = geo
    height, width = images.shape[2], images.shape[3]
    outputs, out_h, out_w = tops.shape[1], tops.shape[2], tops.shape[3]
    per_in = gradient.shape[1]
    per_out = outputs // (images.shape[1] // per_in)
    for m in range(start, stop):
        first = m // per_out * per_in
        for c in range(per_in):
            for ty in range(kernel_h):
                for tx in range(kernel_w):
                    dx = tx * hole_w - pad_w
                    low, high = _span(dx, stride_w, width, 0, out_w)
                    total = 0.0
                    for n in range(images.shape[0]):
                        for oy in range(out_h):
                            iy = oy * stride_h + ty * hole_h - pad_h
                            if iy < 0 or iy >= height or low == high:
                                continue
                            source = images[n, first + c, iy, low * stride_w + dx : (high - 1) * stride_w + dx + 1]
                            top = tops[n, m, oy, low:high]
                            row = gradient.dtype.type(0)
                            if stride_w == 1:
                                for x in range(top.size):
                                    row += top[x] * source[x]
                            else:
                                for x in range(top.size):
                                    row += top[x] * source[x * stride_w]
                            total += row
                    gradient[m, c, ty, tx] += total
