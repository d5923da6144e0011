"""Local response normalisation across channels.

``y = x * s ** -beta`` with ``s = k + alpha/n * (sum of x**2 over n channels around)``; channels
beyond the first and last count as zero. Source: ``lrn_layer.cpp``. Arrays on a CUDA device go to `lrn_cuda`.
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["lrn_across", "lrn_across_backward"]

PIECE = 32768


def _window_sum(values: np.ndarray, size: int) -> np.ndarray:
    """Sum over `size` channels around each channel of (C, pixels)."""
    half = size // 2
    total = values.copy()
    for distance in range(1, min(half, len(values) - 1) + 1):
        total[distance:] += values[:-distance]
        total[:-distance] += values[distance:]
    return total


def _pieces(x: np.ndarray) -> list[tuple[int, int, int]]:
    return [(n, a, b) for n in range(len(x)) for a, b in chunks(x.shape[2], max(16, PIECE // max(1, x.shape[1])))]


def lrn_across(x: np.ndarray, y: np.ndarray, size: int, alpha: float, beta: float, k: float) -> None:
    """Write the normalised x.

    Parameters
    ----------
    x, y : (N, C, pixels) array
    size : int
        Odd.
    alpha, beta, k : float
    """
    if on_device(x):
        from atrouscaffe.ops import lrn_cuda

        lrn_cuda.lrn_across(x, y, size, alpha, beta, k)
        return
    pieces = _pieces(x)

    def work(i: int) -> None:
        n, a, b = pieces[i]
        part = x[n, :, a:b]
        scale = _window_sum(part * part, size)
        scale *= alpha / size
        scale += k
        np.multiply(part, np.power(scale, -beta, out=scale), out=y[n, :, a:b])

    parallel(work, len(pieces))


def lrn_across_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, size: int, alpha: float, beta: float,
                        k: float) -> None:
    """Write ``dx = dy s**-beta - 2 alpha beta / n * x * (window sum of dy*x*s**(-beta-1))``; shapes as above."""
    if on_device(x):
        from atrouscaffe.ops import lrn_cuda

        lrn_cuda.lrn_across_backward(x, dy, dx, size, alpha, beta, k)
        return
    pieces = _pieces(x)

    def work(i: int) -> None:
        n, a, b = pieces[i]
        part, top = x[n, :, a:b], dy[n, :, a:b]
        scale = _window_sum(part * part, size)
        scale *= alpha / size
        scale += k
        power = np.power(scale, -beta)
        inner = _window_sum(top * part * power / scale, size)
        inner *= part
        inner *= 2 * alpha * beta / size
        np.subtract(top * power, inner, out=dx[n, :, a:b])

    parallel(work, len(pieces))
