"""Convolution with holes, its transpose, and their gradients, for one, two or more axes.

Ways on a CPU, chosen by shape (`choose_way`):

- 3x3 taps at stride 1 go through Winograd's transforms (`winograd`);
- few channels, strides and groups of few channels (depthwise) go to a kernel that reads the image itself (`direct`);
- everything else is multiplied by the matrix kernel, holes sampled into its operand (`conv_panels`);
- float64, which serves checks, makes blocks of columns (see `im2col`) and multiplies them by BLAS.

Arrays on a CUDA device go to `conv_cuda`.

The cuts depend on shapes and never on the number of threads, sums are taken in a fixed order by
the one task that owns their target, so results are the same bits for any number of threads. BLAS is
expected to be held to one thread (`runtime.threads.serial_blas`).

Shapes: x (N, C, \\*spatial), weight (M, C/group, \\*kernel), y (N, M, \\*out).
Source: ``conv_layer.cpp``, ``deconv_layer.cpp``, ``base_conv_layer.cpp`` of the forks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.geometry import Window
from atrouscaffe.ops import conv_nd, conv_panels, direct, direct_transpose, winograd
from atrouscaffe.ops.finish import PLAIN, RELU, Finish, finish_blob
from atrouscaffe.ops.im2col import flatten_windows, geo_of, is_direct, is_pointwise, taps_of
from atrouscaffe.ops.im2col_cpu import add_columns, direct_adjoint, direct_forward, direct_weight, fill_columns
from atrouscaffe.ops.keep import Keep, make_anew
from atrouscaffe.ops.winograd_gradient import add_weight_gradient
from atrouscaffe.ops.workspace import TILE_BYTES, scratch
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["choose_way", "conv_bias_gradient", "conv_forward", "conv_transpose", "conv_weight_gradient"]

FEWEST_TASKS = 4
WANTED_TASKS = 8
LEAST_PIXELS = 64
GOOD_PIXELS = 256
MOST_TILE_BYTES = 2**24
ROW_BLOCK = 256
LEAST_CHANNELS = 16
"""Below this many channels or outputs the gradient's operands fill their panels too badly."""


def conv_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray,
                 windows: Sequence[Window], group: int = 1, finish: Finish = PLAIN, *, keep: Keep = make_anew,
                 engine: str | None = None) -> None:
    """Write ``y = conv(x, weight) + bias``, finished.

    Parameters
    ----------
    x : (N, C, \\*spatial) array
    weight : (M, C/group, \\*kernel) array
    bias : (M,) array or None
    y : (N, M, \\*out) array, written
    windows : sequence of Window
        One for each spatial axis.
    group : int
    finish : Finish
        Activation and addend; on a CUDA device only `PLAIN` and `RELU`.
    keep : Keep
        Holds packed weights from call to call.
    engine : str, optional
        One of `atrouscaffe.runtime.backend.ENGINES`, where it can do the work; else the way is chosen by shape.
    """
    if not len(x):
        return
    if len(windows) > 2:
        conv_nd.forward(x, weight, bias, y, windows, group)
        _finished(y, finish)
        return
    x, y, weight, windows = _two_axes(x, y, weight, windows)
    if on_device(x):
        from atrouscaffe.ops import conv_cuda

        conv_cuda.conv_forward(x, weight, bias, y, windows, group, finish is RELU)
        return
    way = choose_way(x, weight, y, windows, group, engine)
    if way == "winograd":
        late = finish.base is not None
        winograd.forward(x, weight, bias, y, windows, PLAIN if late else finish, keep)
        if late:
            _finished(y, finish)
    elif way == "panels":
        conv_panels.forward(x, weight, bias, y, windows, group, finish, keep)
    elif way == "direct":
        direct.forward(x, weight, bias, y, windows, group, finish, keep)
    elif way == "loops":
        flat_bias = np.zeros(0, x.dtype) if bias is None else bias
        blocks, geo = _plane_blocks(y.shape), geo_of(windows)
        parallel(lambda i: direct_forward(x, weight, flat_bias, y, *blocks[i], geo), len(blocks))
        _finished(y, finish)
    else:
        _by_columns(x, weight, bias, y, windows, group)
        _finished(y, finish)


def _by_columns(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, windows: Sequence[Window],
                group: int) -> None:
    """Convolve by blocks of columns and BLAS: the way of float64, and of whoever asks for it."""
    images, pixels = len(x), y.shape[2] * y.shape[3]
    tile = _tile(images, pixels, x.shape[1] * taps_of(windows), x.itemsize)
    tiles = [(n, a, b) for n in range(images) for a, b in chunks(pixels, tile)]
    kernel = weight.reshape(group, weight.shape[0] // group, -1)
    out = y.reshape(images, group, kernel.shape[1], pixels)
    shift = None if bias is None else bias.reshape(group, -1, 1)

    def work(i: int) -> None:
        n, a, b = tiles[i]
        columns = _columns(x[n], windows, y.shape[3], a, b, group)
        target = out[n, :, :, a:b]
        np.matmul(kernel, columns, out=target)
        if shift is not None:
            target += shift

    parallel(work, len(tiles))


def _finished(y: Any, finish: Finish) -> None:
    """Do to all outputs what the ways without registers of their own leave."""
    if finish.base is None and not finish.act:
        return
    if y.dtype == np.float32 and y.flags.c_contiguous:
        flat = y.reshape(*y.shape[:2], -1)
        finish_blob(flat, flat, finish)
        return
    steep = finish.slopes(y.shape[1]).astype(y.dtype).reshape(-1, *(1,) * (y.ndim - 2))
    if finish.base is not None:
        y += finish.base
    if finish.act:
        np.copyto(y, 0 if finish.act == 1 else y * steep, where=y < 0)
        np.minimum(y, y.dtype.type(finish.cap), out=y)


def conv_transpose(dy: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, x: np.ndarray,
                   windows: Sequence[Window], group: int = 1, finish: Finish = PLAIN, *, keep: Keep = make_anew,
                   engine: str | None = None) -> None:
    """Write the adjoint of `conv_forward` into x: the data gradient, or a Deconvolution's output.

    Parameters
    ----------
    dy : (N, M, \\*out) array
    weight : (M, C/group, \\*kernel) array
    bias : (C,) array or None
    x : (N, C, \\*spatial) array, overwritten
    windows : sequence of Window
    group : int
    finish : Finish
        As in `conv_forward`; none on a CUDA device.
    keep, engine
        As in `conv_forward`.
    """
    if not len(x):
        return
    if len(windows) > 2:
        conv_nd.transpose(dy, weight, bias, x, windows, group)
        _finished(x, finish)
        return
    x, dy, weight, windows = _two_axes(x, dy, weight, windows)
    if on_device(x):
        from atrouscaffe.ops import conv_cuda

        conv_cuda.conv_transpose(dy, weight, bias, x, windows, group)
        return
    geo = geo_of(windows)
    if engine != "columns" and direct_transpose.fits(dy, weight, x, windows, group):
        late = finish.base is not None
        direct_transpose.transpose(dy, weight, bias, x, windows, group, PLAIN if late else finish, keep)
        if late:
            _finished(x, finish)
        return
    if is_direct(weight, dy.shape[1], group):
        flat_bias = np.zeros(0, x.dtype) if bias is None else bias
        blocks = _plane_blocks(x.shape)
        parallel(lambda i: direct_adjoint(dy, weight, flat_bias, x, *blocks[i], geo), len(blocks))
        _finished(x, finish)
        return
    if all(w.stride == 1 and w.pad < w.extent for w in windows):
        back = tuple(Window(w.kernel, 1, w.extent - 1 - w.pad, w.hole) for w in windows)
        if choose_way(dy, weight, x, back, group, engine) == "winograd":
            winograd.forward(dy, weight, bias, x, back, PLAIN, keep, turned=True)
            _finished(x, finish)
            return
        turned = keep(("turned", group), lambda: _turned(weight, group))
        conv_forward(dy, turned, bias, x, back, group, finish, engine=engine)
        return
    taps, images = taps_of(windows), len(x)
    per_in, per_out = weight.shape[1], weight.shape[0] // group
    pixels = dy.shape[2] * dy.shape[3]
    step = _block(per_in, max(1, ROW_BLOCK // taps), images * group)
    tasks = [(n, g, a, b) for n in range(images) for g in range(group) for a, b in chunks(per_in, step)]
    tops = dy.reshape(images, group, per_out, pixels)
    kernel = weight.reshape(group, per_out, per_in * taps)
    tile = max(LEAST_PIXELS, TILE_BYTES // (step * taps * x.itemsize) // 16 * 16)

    def work(i: int) -> None:
        n, g, a, b = tasks[i]
        planes = x[n, g * per_in + a : g * per_in + b]
        planes[...] = 0 if bias is None else bias[g * per_in + a : g * per_in + b, None, None]
        turned = kernel[g, :, a * taps : b * taps].T
        for p, q in chunks(pixels, tile):
            columns = scratch("columns", ((b - a) * taps, q - p), x.dtype)
            np.matmul(turned, tops[n, g, :, p:q], out=columns)
            add_columns(columns, planes, 0, p, dy.shape[3], geo)

    parallel(work, len(tasks))
    _finished(x, finish)


def conv_weight_gradient(x: np.ndarray, dy: np.ndarray, dweight: np.ndarray, windows: Sequence[Window],
                         group: int = 1, *, engine: str | None = None) -> None:
    """Add the gradient of `conv_forward`'s weight to `dweight`.

    Each task owns some rows of the column matrix (some channels and taps) and goes through images
    and pixels in order.

    Parameters
    ----------
    x : (N, C, \\*spatial) array
    dy : (N, M, \\*out) array
    dweight : (M, C/group, \\*kernel) array, added to
    windows : sequence of Window
    group : int
    """
    if not len(x):
        return
    if len(windows) > 2:
        conv_nd.weight_gradient(x, dy, dweight, windows, group)
        return
    x, dy, dweight, windows = _two_axes(x, dy, dweight, windows)
    if on_device(x):
        from atrouscaffe.ops import conv_cuda

        conv_cuda.conv_weight_gradient(x, dy, dweight, windows, group)
        return
    geo = geo_of(windows)
    if is_direct(dweight, dy.shape[1], group):
        blocks = chunks(dy.shape[1], max(1, dy.shape[1] // 16))
        parallel(lambda i: direct_weight(x, dy, dweight, *blocks[i], geo), len(blocks))
        return
    if min(x.shape[1], dy.shape[1]) >= LEAST_CHANNELS and choose_way(x, dweight, dy, windows, group,
                                                                     engine) == "winograd":
        add_weight_gradient(x, dy, dweight, windows)
        return
    images, taps, pixels = len(x), taps_of(windows), dy.shape[2] * dy.shape[3]
    per_in, per_out = dweight.shape[1], dweight.shape[0] // group
    rows = per_in * taps
    step = _block(rows, ROW_BLOCK, group)
    tasks = [(g, a, b) for g in range(group) for a, b in chunks(rows, step)]
    tops = dy.reshape(images, group, per_out, pixels)
    gradient = dweight.reshape(group, per_out, rows)
    tile = max(4 * LEAST_PIXELS, TILE_BYTES // (step * x.itemsize) // 16 * 16)
    pointwise = is_pointwise(windows)
    flat = x.reshape(images, group, per_in, -1)

    def work(i: int) -> None:
        g, a, b = tasks[i]
        total = scratch("total", (per_out, b - a), x.dtype)
        part = scratch("part", (per_out, b - a), x.dtype)
        total[...] = 0
        for n in range(images):
            planes = x[n, g * per_in : (g + 1) * per_in]
            for p, q in chunks(pixels, tile):
                if pointwise:
                    columns = flat[n, g, a:b, p:q]
                else:
                    columns = scratch("columns", (b - a, q - p), x.dtype)
                    fill_columns(planes, columns, a, p, dy.shape[3], geo)
                np.matmul(tops[n, g, :, p:q], columns.T, out=part)
                np.add(total, part, out=total)
        gradient[g, :, a:b] += total

    parallel(work, len(tasks))


def conv_bias_gradient(dy: np.ndarray, dbias: np.ndarray) -> None:
    """Add to `dbias` (M,) the sum of `dy` (N, M, \\*out) over images and pixels."""
    if not len(dy):
        return
    if on_device(dy):
        from atrouscaffe.ops import conv_cuda

        conv_cuda.conv_bias_gradient(dy, dbias)
        return
    planes = dy.reshape(dy.shape[0], dy.shape[1], -1)
    blocks = chunks(dy.shape[1], max(1, dy.shape[1] // 16))

    def work(i: int) -> None:
        a, b = blocks[i]
        dbias[a:b] += planes[:, a:b].sum(axis=2).sum(axis=0)

    parallel(work, len(blocks))


def choose_way(x: np.ndarray, weight: np.ndarray, y: np.ndarray, windows: Sequence[Window], group: int,
               engine: str | None = None) -> str:
    """Return the way of a convolution over two axes on the CPU: one of the backend's `ENGINES`, or ``"loops"``.

    The cheaper one by an estimate in processor cycles, whose constants were measured (`benchmarks/cpu.py`).

    Parameters
    ----------
    x, weight, y : array
        Input, weight and output; those that are not contiguous, or float64, take the way of columns.
    windows : two of Window
    group : int
    engine : str, optional
        Also ``"plain"``: any but Winograd.
    """
    plain = all(a.dtype == np.float32 and a.flags.c_contiguous for a in (x, weight, y))
    if is_direct(weight, y.shape[1], group):
        return "direct" if plain else "loops"
    if engine == "columns" or not plain:
        return "columns"
    if engine in ("panels", "direct"):
        return engine
    fits = winograd.fits(weight, windows, group) and engine != "plain"
    return engine if engine == "winograd" and fits else _cheapest(x.shape, y.shape, tuple(windows), group, fits)


@functools.lru_cache(512)
def _cheapest(x: tuple[int, ...], y: tuple[int, int, int, int], windows: tuple[Window, Window], group: int,
              tiled: bool) -> str:
    """Return the cheapest way from shape `x` to shape `y`; `tiled`: Winograd's can do the work."""
    per_in, outputs, pixels = x[1] // group, y[1], y[0] * y[2] * y[3]
    costs = {"panels": pixels * (per_in * taps_of(windows) * (outputs / 32 + group) + outputs * 0.6),
             "direct": direct.cost(x, y, windows, group)}
    if tiled:
        tiles, vectors = winograd.counted(y, windows[0].hole)
        costs["winograd"] = 36 * tiles * per_in * outputs / 32 + vectors * (per_in * 300 + outputs * 200)
    return min(costs, key=lambda way: costs[way])


def _turned(weight: np.ndarray, group: int) -> np.ndarray:
    """Return (C, M/group, \\*kernel): outputs and channels exchanged, taps backwards."""
    outputs, per_in, *kernel = weight.shape
    grouped = weight.reshape(group, outputs // group, per_in, *kernel).swapaxes(1, 2)[..., ::-1, ::-1]
    return np.ascontiguousarray(grouped).reshape(group * per_in, outputs // group, *kernel)


# -- cuts and choices -----------------------------------------------------------------------------


def _two_axes(x: np.ndarray, y: np.ndarray, weight: np.ndarray, windows: Sequence[Window]) -> tuple:
    """Give one-axis operands a first spatial axis of size 1."""
    if len(windows) == 2:
        return x, y, weight, tuple(windows)
    turned, both = flatten_windows(x, windows)
    return turned, flatten_windows(y, windows)[0], flatten_windows(weight, windows)[0], both


def _plane_blocks(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Cut (N, C) planes into blocks of some 64K pixels."""
    return chunks(shape[0] * shape[1], max(1, 65536 // max(1, shape[2] * shape[3])))


def _block(count: int, most: int, others: int) -> int:
    """Size of blocks of `count` rows: at most `most`, and small enough for `WANTED_TASKS` with `others` beside."""
    pieces = max(-(-count // most), min(count, -(-WANTED_TASKS // max(1, others))))
    return -(-count // pieces)


def _tile(images: int, pixels: int, rows: int, itemsize: int) -> int:
    """Pixels a tile: columns of about `TILE_BYTES`, an even share for each, a multiple of 16.

    Every tile reads the whole weight, so that tall columns get wider tiles, up to `MOST_TILE_BYTES`.
    """
    one = rows * itemsize
    wanted = max(TILE_BYTES // one, min(GOOD_PIXELS, MOST_TILE_BYTES // one), LEAST_PIXELS)
    count = max(1, -(-pixels // wanted))
    if images * count < WANTED_TASKS:
        count = -(-WANTED_TASKS // images)
    count = max(1, min(count, pixels // LEAST_PIXELS))
    if count > FEWEST_TASKS:
        count = -(-count // FEWEST_TASKS) * FEWEST_TASKS
    return max(LEAST_PIXELS, -(-pixels // count + 15) // 16 * 16)


def _columns(image: np.ndarray, windows: Sequence[Window], out_w: int, a: int, b: int, group: int) -> np.ndarray:
    """Return the columns (group, rows, b-a) of pixels a to b of one image, in this thread's scratch memory."""
    if is_pointwise(windows):
        return image.reshape(group, image.shape[0] // group, -1)[:, :, a:b]
    rows = image.shape[0] * taps_of(windows)
    columns = scratch("columns", (rows, b - a), image.dtype)
    fill_columns(image, columns, 0, a, out_w, geo_of(windows))
    return columns.reshape(group, rows // group, b - a)
