"""Rows that are chosen, and added up where several go to one."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.ops.rows import add_rows, take_rows
from atrouscaffe.runtime.backend import get_backend


@pytest.mark.parametrize("indices", [[2, 0, 2, 2, 1], [3], [], [0, 3, 0, 3, 0, 3, 0]])
@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 3, 7)])
def test_rows_go_out_and_come_back(indices, shape, device, rng):
    backend, chosen = get_backend(device), np.array(indices, np.intp)
    table = rng.standard_normal(shape)
    source = rng.standard_normal((len(indices), *shape[1:]))
    with backend.active():
        taken, total = backend.zeros(source.shape, np.float64), backend.asarray(table.copy())
        take_rows(backend.asarray(table), chosen, taken)
        add_rows(total, chosen, backend.asarray(source))
        taken, total = backend.to_numpy(taken), backend.to_numpy(total)
    np.testing.assert_array_equal(taken, table[chosen])
    expected = table.copy()
    for place, row in zip(indices, source):
        expected[place] += row
    np.testing.assert_array_equal(total, expected)
