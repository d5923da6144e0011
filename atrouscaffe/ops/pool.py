"""Pooling: MAX, AVE and STOCHASTIC windows over the planes of a blob.

Source: ``pooling_layer.cpp`` and, for STOCHASTIC, ``pooling_layer.cu`` of the forks (their CPU code
has no stochastic pooling). Arrays on a CUDA device go to `pool_cuda`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import ShapeError
from atrouscaffe.geometry import Window
from atrouscaffe.ops import pool_cpu
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["average_backward", "average_pool", "max_backward", "max_indices", "max_pool", "pool_shape",
           "stochastic_average", "stochastic_average_backward", "stochastic_pick"]

TINY = float(np.finfo(np.float32).tiny)  # FLT_MIN, from which the original's sums start


def pool_shape(size: Sequence[int], windows: Sequence[Window], floor: bool = False) -> tuple[int, ...]:
    """Output (height, width) of a pooling; see `Window.pool_size`.

    With padding along either axis, a last window behind the image is dropped along both
    (``if (pad_h_ || pad_w_)`` in the original).
    """
    if any(w.pad >= w.kernel for w in windows):
        raise ShapeError("pooling: expected pads smaller than the kernel, got pad "
                         f"{tuple(w.pad for w in windows)} for kernel {tuple(w.kernel for w in windows)}")
    out = [w.pool_size(n, floor) for n, w in zip(size, windows)]
    if any(w.pad for w in windows):
        out = [o - 1 if (o - 1) * w.stride >= n + w.pad else o for o, n, w in zip(out, size, windows)]
    return tuple(out)


def _geo(windows: Sequence[Window]) -> tuple[int, int, int, int, int, int]:
    h, w = windows
    return (h.kernel, w.kernel, h.stride, w.stride, h.pad, w.pad)


def _planes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, *array.shape[-2:])


def _blocks(array: np.ndarray) -> list[tuple[int, int]]:
    """Cut the planes of (P, H, W) into blocks of some 64K pixels."""
    return chunks(array.shape[0], max(1, 65536 // max(1, array.shape[1] * array.shape[2])))


def max_pool(x: np.ndarray, y: np.ndarray, windows: Sequence[Window]) -> None:
    """Write the maximum of each window; pads are never chosen.

    Parameters
    ----------
    x : (N, C, H, W) array
    y : (N, C, out_h, out_w) array, written
    windows : sequence of Window
        Along height and width.
    """
    if on_device(x):
        from atrouscaffe.ops import pool_cuda

        pool_cuda.max_pool(x, y, windows)
        return
    planes, out, geo = _planes(x), _planes(y), _geo(windows)
    blocks = _blocks(planes)
    parallel(lambda i: pool_cpu.pool_forward(planes, out, *blocks[i], geo, True), len(blocks))


def max_indices(x: np.ndarray, shape: Sequence[int], windows: Sequence[Window]) -> np.ndarray:
    """Return where each window's first maximum is.

    Returns
    -------
    (\\*shape) int32 array
        ``h*W + w`` inside the plane, -1 for a window without a value above -FLT_MAX.
    """
    if on_device(x):
        from atrouscaffe.ops import pool_cuda

        return pool_cuda.max_indices(x, shape, windows)
    planes, geo = _planes(x), _geo(windows)
    indices = np.empty(tuple(shape), np.int32)
    flat, blocks = _planes(indices), _blocks(planes)
    parallel(lambda i: pool_cpu.max_indices(planes, flat, *blocks[i], geo), len(blocks))
    return indices


def max_backward(dy: np.ndarray, indices: np.ndarray, dx: np.ndarray, windows: Sequence[Window]) -> None:
    """Overwrite dx (N, C, H, W) with each window's dy at the pixel that `indices` (as dy) names."""
    if on_device(dy):
        from atrouscaffe.ops import pool_cuda

        pool_cuda.max_backward(dy, indices, dx, windows)
        return
    planes, tops, where = _planes(dx), _planes(dy), _planes(indices)
    blocks = _blocks(planes)
    parallel(lambda i: pool_cpu.max_backward(tops, where, planes, *blocks[i]), len(blocks))


def average_pool(x: np.ndarray, y: np.ndarray, windows: Sequence[Window]) -> None:
    """Write the average of each window; padding counts, so a 3x3 window at pad 1 divides by 9.

    Shapes as in `max_pool`.
    """
    if on_device(x):
        from atrouscaffe.ops import pool_cuda

        pool_cuda.average_pool(x, y, windows)
        return
    planes, out, geo = _planes(x), _planes(y), _geo(windows)
    blocks = _blocks(planes)
    parallel(lambda i: pool_cpu.pool_forward(planes, out, *blocks[i], geo, False), len(blocks))


def average_backward(dy: np.ndarray, dx: np.ndarray, windows: Sequence[Window]) -> None:
    """Overwrite dx (N, C, H, W) with the adjoint of `average_pool`."""
    if on_device(dy):
        from atrouscaffe.ops import pool_cuda

        pool_cuda.average_backward(dy, dx, windows)
        return
    planes, tops, geo = _planes(dx), _planes(dy), _geo(windows)
    blocks = _blocks(planes)
    parallel(lambda i: pool_cpu.average_backward(tops, planes, *blocks[i], geo), len(blocks))


# -- stochastic pooling (Zeiler and Fergus 2013): rare, so in NumPy's words -----------------------


def _taps(plane: np.ndarray, out: Sequence[int], windows: Sequence[Window]) -> np.ndarray:
    """Return (out_h, out_w, taps) of one (H, W) plane; windows that reach over its edge are filled with zeros."""
    h, w = windows
    whole = np.zeros(((out[0] - 1) * h.stride + h.kernel, (out[1] - 1) * w.stride + w.kernel), plane.dtype)
    tall, wide = min(plane.shape[0], whole.shape[0]), min(plane.shape[1], whole.shape[1])
    whole[:tall, :wide] = plane[:tall, :wide]
    view = np.lib.stride_tricks.sliding_window_view(whole, (h.kernel, w.kernel))[:: h.stride, :: w.stride]
    return view.reshape(out[0], out[1], -1)


def stochastic_pick(x: np.ndarray, chance: np.ndarray, y: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
    """Write one value of each window, chosen with a probability in proportion to itself (TRAIN).

    Parameters
    ----------
    x : (N, C, H, W) array
        At least 0.
    chance : (N, C, out_h, out_w) array
        Uniform in [0, 1).
    y : (N, C, out_h, out_w) array, written
    windows : sequence of Window
        Without pads.

    Returns
    -------
    (N, C, out_h, out_w) int32 array
        Index of each choice inside its plane, for `max_backward`; -1 for a window outside the image.
    """
    if on_device(x):
        from atrouscaffe.ops import pool_cuda

        return pool_cuda.stochastic_pick(x, chance, y, windows)
    h, w = windows
    planes, out, draws = _planes(x), _planes(y), _planes(chance)
    indices = np.empty(out.shape, np.int32)
    rows = (np.arange(out.shape[1]) * h.stride)[:, None]
    columns = (np.arange(out.shape[2]) * w.stride)[None, :]
    outside = (rows >= x.shape[-2]) | (columns >= x.shape[-1])

    def work(p: int) -> None:
        taps = _taps(planes[p], out.shape[1:], windows)
        running = np.cumsum(taps, axis=2)
        pick = np.argmax(running >= (draws[p] * running[:, :, -1])[:, :, None], axis=2)
        out[p] = np.take_along_axis(taps, pick[:, :, None], 2)[:, :, 0]
        indices[p] = (rows + pick // w.kernel) * x.shape[-1] + columns + pick % w.kernel
        indices[p][outside] = -1

    parallel(work, len(planes))
    return indices.reshape(y.shape)


def stochastic_average(x: np.ndarray, y: np.ndarray, windows: Sequence[Window]) -> None:
    """Write the expectation of `stochastic_pick`: sum of squares over sum (TEST). Shapes as there."""
    if on_device(x):
        from atrouscaffe.ops import pool_cuda

        pool_cuda.stochastic_average(x, y, windows)
        return
    planes, out = _planes(x), _planes(y)

    def work(p: int) -> None:
        taps = _taps(planes[p], out.shape[1:], windows)
        out[p] = np.einsum("hwt,hwt->hw", taps, taps) / (taps.sum(axis=2) + x.dtype.type(TINY))

    parallel(work, len(planes))


def stochastic_average_backward(x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray,
                                windows: Sequence[Window]) -> None:
    """Overwrite dx with the gradient of `stochastic_average`: ``dy (2x - y) / sum`` over each window.

    The original has none of its own for this phase.
    """
    if on_device(x):
        from atrouscaffe.ops import pool_cuda

        pool_cuda.stochastic_average_backward(x, y, dy, dx, windows)
        return
    # Sum_windows dy/sum * 2x - Sum_windows dy*y/sum: two adjoints of a window sum.
    sums = np.empty_like(y)
    spread = np.empty_like(dx)
    for p, plane in enumerate(_planes(x)):
        _planes(sums)[p] = _taps(plane, y.shape[-2:], windows).sum(axis=2)
    share = dy / (sums + x.dtype.type(TINY))
    _window_adjoint(share, spread, windows)
    _window_adjoint(share * y, dx, windows)
    np.subtract(2 * x * spread, dx, out=dx)


def _window_adjoint(dy: np.ndarray, dx: np.ndarray, windows: Sequence[Window]) -> None:
    """Overwrite dx (…, H, W) with the sum of the dy of all windows that hold each pixel."""
    h, w = windows
    whole = np.zeros((*dx.shape[:-2], max(dx.shape[-2], (dy.shape[-2] - 1) * h.stride + h.kernel),
                      max(dx.shape[-1], (dy.shape[-1] - 1) * w.stride + w.kernel)), dx.dtype)
    for ty in range(h.kernel):
        for tx in range(w.kernel):
            whole[..., ty : ty + (dy.shape[-2] - 1) * h.stride + 1 : h.stride,
                  tx : tx + (dy.shape[-1] - 1) * w.stride + 1 : w.stride] += dy
    dx[...] = whole[..., : dx.shape[-2], : dx.shape[-1]]
