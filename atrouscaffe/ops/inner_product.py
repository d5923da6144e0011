"""Matrix products of inner product layers, spread over the threads by rows of the weights.

One row of input makes this a walk through the weights at the speed of memory, which two threads do
faster than one. Arrays on a CUDA device go to `inner_product_cuda`. Shapes: x (M, K), weight (N, K), y (M, N).
"""

from __future__ import annotations

import numpy as np

from atrouscaffe.ops.workspace import scratch
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["inner_product", "inner_product_data_gradient", "inner_product_weight_gradient"]

ELEMENTS = 2**18
ROWS = 256


def _grain(count: int, other: int) -> int:
    """Block size along `count` whose blocks hold `ELEMENTS` weights, and at most an eighth of all."""
    return max(1, min(-(-count // 8), ELEMENTS // max(1, other)))


def inner_product(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
    """Write ``y = x @ weight.T + bias``; `weight` may be a transposed view."""
    if on_device(x):
        from atrouscaffe.ops import inner_product_cuda

        inner_product_cuda.inner_product(x, weight, bias, y)
        return
    tasks = [(a, b, m, n) for a, b in chunks(weight.shape[0], _grain(*weight.shape)) for m, n in chunks(len(x), ROWS)]

    def work(i: int) -> None:
        a, b, m, n = tasks[i]
        target = y[m:n, a:b]
        np.matmul(x[m:n], weight[a:b].T, out=target)
        if bias is not None:
            target += bias[a:b]

    parallel(work, len(tasks))


def inner_product_data_gradient(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
    """Write ``dx = dy @ weight``."""
    if on_device(dy):
        from atrouscaffe.ops import inner_product_cuda

        inner_product_cuda.inner_product_data_gradient(dy, weight, dx)
        return
    tasks = [(a, b, m, n) for a, b in chunks(weight.shape[1], _grain(weight.shape[1], weight.shape[0]))
             for m, n in chunks(len(dy), ROWS)]

    def work(i: int) -> None:
        a, b, m, n = tasks[i]
        np.matmul(dy[m:n], weight[:, a:b], out=dx[m:n, a:b])

    parallel(work, len(tasks))


def inner_product_weight_gradient(x: np.ndarray, dy: np.ndarray, dweight: np.ndarray) -> None:
    """Add ``dy.T @ x`` to `dweight` (N, K), which may be a transposed view."""
    if on_device(x):
        from atrouscaffe.ops import inner_product_cuda

        inner_product_cuda.inner_product_weight_gradient(x, dy, dweight)
        return
    blocks = chunks(dweight.shape[0], _grain(*dweight.shape))

    def work(i: int) -> None:
        a, b = blocks[i]
        part = scratch("part", (b - a, x.shape[1]), x.dtype)
        np.matmul(dy[:, a:b].T, x, out=part)
        dweight[a:b] += part

    parallel(work, len(blocks))
