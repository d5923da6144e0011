import numpy as np
import pytest

from atrouscaffe.ops.product import aligned, leading, padded_rows, product, row_blocks
from atrouscaffe.ops.product_cpu import ROWS, WIDTH, pack_rows
from atrouscaffe.runtime.threads import chunks


@pytest.mark.parametrize("rows", [*range(1, 45), 64, 100, 512, 1023])
def test_blocks_hold_every_row_once_and_pad_less_than_the_lowest_block(rows):
    blocks = row_blocks(rows)
    assert np.array_equal(blocks[:, 0], np.concatenate([[0], np.cumsum(blocks[:-1, 1])]))
    assert blocks[:, 2].sum() == rows
    assert (blocks[:-1, 1] == blocks[:-1, 2]).all()
    assert set(blocks[:, 1]) <= set(ROWS)
    assert padded_rows(blocks) - rows < ROWS[0]


@pytest.mark.parametrize("columns", [1, 16, 17, 100, 112, 4096])
def test_rows_are_an_odd_number_of_cache_lines_and_a_vector_can_begin_at_the_last_column(columns):
    assert leading(columns) // 16 % 2 == 1
    assert leading(columns) % 16 == 0
    assert leading(columns) >= columns + 15
    assert aligned("a row", leading(columns)).ctypes.data % 64 == 0


def multiplied(a, b, bias, slope, cap, base, act, pieces):
    """C by the kernel, over `pieces` parts of k."""
    rows, depth, columns = len(a), a.shape[1], b.shape[1]
    blocks, ld = row_blocks(rows), leading(b.shape[1])
    panels = np.full(padded_rows(blocks) * depth, np.nan, np.float32)
    pack_rows(a.reshape(-1), depth, 1, blocks, panels)
    right = aligned("right", depth * ld)
    right.reshape(depth, ld)[:, :columns] = b
    out = np.full((rows, columns), np.nan, np.float32)
    pad = np.zeros(padded_rows(blocks) - rows, np.float32)
    place = (out.reshape(-1), 0, columns, 0)
    for k0, k1 in chunks(depth, -(-depth // pieces)):
        under = (base.reshape(-1), 0, columns, 0) if base is not None else None
        product(panels, blocks, (0, len(blocks)), (depth, k0, k1, 0), (right, k0 * ld, ld, columns, 0, 1), place,
                place if k0 else under, np.concatenate([bias, pad]), np.concatenate([slope, pad]),
                -1 if k1 < depth else act, cap)
    return out


@pytest.mark.parametrize("act", [0, 1, 2])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 16), (14, 64, 32), (21, 33, 17), (30, 9, 71), (64, 100, 96)])
def test_product_when_compared_with_float64_then_equal(shape, pieces, act, rng):
    m, k, n = shape
    a, b, base = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n), (m, n)))
    bias, slope = rng.standard_normal(m).astype(np.float32), rng.random(m, np.float32)
    cap = 1.5 if act else np.inf
    want = a.astype(float) @ b + bias[:, None] + base
    largest = abs(want).max()
    if act:
        want = np.minimum(np.where(want < 0, want * (slope[:, None] if act == 2 else 0), want), cap)
    got = multiplied(a, b, bias, slope, cap, base, act, pieces)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * largest)


def test_activation_when_a_sum_is_no_number_or_infinite_then_as_in_numpy():
    a = np.ones((1, 1), np.float32)
    b = np.array([[np.nan, -np.inf, np.inf, -1, 2]], np.float32)
    zero = np.zeros(1, np.float32)
    np.testing.assert_array_equal(multiplied(a, b, zero, zero, np.inf, None, 1, 1), np.maximum(b, 0))
    np.testing.assert_array_equal(multiplied(a, b, zero, zero + 0.5, np.inf, None, 2, 1), np.where(b < 0, b / 2, b))


def test_right_operand_when_it_lies_in_panels_then_as_in_rows(rng):
    m, k, n = 9, 11, 2 * WIDTH + 5
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    panels = np.zeros((3, k, WIDTH), np.float32)
    for j in range(n):
        panels[j // WIDTH, :, j % WIDTH] = b[:, j]
    blocks = row_blocks(m)
    left = np.empty(padded_rows(blocks) * k, np.float32)
    pack_rows(a.reshape(-1), k, 1, blocks, left)
    out = np.empty((m, n), np.float32)
    product(left, blocks, (0, len(blocks)), (k, 0, k, 0), (panels.reshape(-1), 0, WIDTH, n, 0, k),
            (out.reshape(-1), 0, n, 0))
    np.testing.assert_allclose(out, a.astype(float) @ b, rtol=0, atol=1e-5)
