"""How elementwise work is cut: everything once, whatever the shape, errors pass through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.errors import ShapeError
from atrouscaffe.ops.elementwise import BLOCK, fold, over_tiles, spread


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 5), (2, 3, 5, 7), (BLOCK,), (3, BLOCK // 2 + 1)])
def test_spread_meets_each_place_once(shape):
    count, x = np.zeros(shape), np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape)

    def kernel(xp, piece, out):
        out += piece + 1

    spread(np, kernel, x, count)
    assert np.array_equal(count, x + 1)


def test_spread_hands_whole_arrays_to_other_modules():
    class Elsewhere:
        pass

    seen = []
    spread(Elsewhere, lambda xp, piece: seen.append((xp, piece.size)), np.zeros((2, BLOCK)))
    assert seen == [(Elsewhere, 2 * BLOCK)]


def test_spread_refuses_gaps_and_unequal_sizes():
    with pytest.raises(ShapeError, match="contiguous"):
        spread(np, lambda xp, *pieces: None, np.zeros((5, 7))[:, ::2])
    with pytest.raises(ShapeError, match="one size"):
        spread(np, lambda xp, *pieces: None, np.zeros(5), np.zeros(7))


@settings(deadline=None, max_examples=60)
@given(st.tuples(st.integers(0, 5), st.integers(1, 300), st.integers(0, 3000)) |
       st.tuples(st.integers(0, 4000), st.integers(1, 40), st.integers(0, 5)))
def test_tiles_cover_each_place_once_and_are_small(shape):
    count = np.zeros(shape, np.int8)

    def work(rows, columns):
        count[rows, :, columns] += 1
        return count[rows, :, columns].size

    sizes = over_tiles(shape, work)
    assert np.all(count == 1) and sum(sizes) == count.size
    assert all(size <= max(BLOCK, 64 * shape[1]) for size in sizes)


def test_tiles_return_results_in_order_and_pass_errors_on():
    starts = over_tiles((1, 1, 5 * BLOCK), lambda rows, columns: columns.start)
    assert starts == sorted(starts) and len(starts) == 5
    with pytest.raises(ZeroDivisionError):
        over_tiles((1, 1, 5 * BLOCK), lambda rows, columns: 1 // (columns.start - BLOCK))


def test_fold():
    assert fold((2, 3, 5, 7), 1) == (2, 3, 35)
    assert fold((2, 3, 5, 7), 0) == (1, 2, 105)
    assert fold((2, 3), 1) == (2, 3, 1)
