import itertools

import numpy as np
import pytest

from atrouscaffe.geometry import Window
from atrouscaffe.ops.conv import conv_forward, conv_transpose, conv_weight_gradient
from atrouscaffe.ops.finish import PLAIN, RELU, Finish
from atrouscaffe.ops.winograd import cut_rows, tile_rows
from atrouscaffe.runtime.threads import set_num_threads
from tests import naive

# N, C, M, height, width, pad (h, w), hole: tiles that end inside, holes above and below the lanes, maps below a tile
CASES = [(1, 3, 5, 9, 11, (1, 1), 1), (2, 4, 3, 3, 3, (0, 0), 1), (1, 2, 30, 70, 66, (1, 1), 1),
         (1, 5, 4, 21, 17, (2, 2), 2), (2, 3, 2, 15, 14, (3, 3), 3), (1, 3, 4, 25, 19, (12, 12), 12),
         (1, 2, 3, 45, 60, (8, 8), 8), (1, 2, 2, 50, 95, (20, 20), 20), (1, 2, 2, 9, 8, (12, 12), 12),
         (1, 2, 3, 5, 6, (4, 3), 1), (2, 40, 33, 12, 10, (2, 0), 1)]


def problem(case):
    n, c, m, height, width, pads, hole = case
    rng = np.random.default_rng(5)
    windows = tuple(Window(3, 1, pad, hole) for pad in pads)
    x = rng.standard_normal((n, c, height, width)).astype(np.float32)
    weight = rng.standard_normal((m, c, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(m).astype(np.float32)
    dy = rng.standard_normal((n, m, *(w.conv_size(s) for w, s in zip(windows, (height, width))))).astype(np.float32)
    return x, weight, bias, dy, windows


def near(got, want, tolerance=2e-6):
    assert np.sqrt(((got - want) ** 2).sum() / (want**2).sum()) < tolerance


@pytest.mark.parametrize("case", CASES, ids=str)
def test_winograd_when_compared_with_loops_then_equal(case):
    x, weight, bias, dy, windows = problem(case)
    geometry = ((3, 3), (1, 1), case[5], (case[6],) * 2, 1)
    y, dx, dw = np.full_like(dy, np.nan), np.full_like(x, np.nan), np.ones_like(weight)
    conv_forward(x, weight, bias, y, windows, engine="winograd")
    near(y, naive.conv(x, weight, bias, *geometry))
    want_dx, want_dw, _ = naive.conv_gradients(x, weight, dy, *geometry)
    conv_transpose(dy, weight, None, dx, windows, engine="winograd")
    near(dx, want_dx)
    conv_weight_gradient(x, dy, dw, windows, engine="winograd")
    near(dw - 1, want_dw, 4e-6)


@pytest.mark.parametrize("finish", [RELU, Finish(slope=0.0, cap=6.0), Finish(slope=np.linspace(0, 2, 30)),
                                    Finish(slope=0.1, cap=3.0)], ids=["relu", "relu6", "prelu", "leaky"])
@pytest.mark.parametrize("engine", ["winograd", "direct", "panels", "columns"])
def test_finish_when_it_is_done_in_registers_then_as_afterwards(engine, finish):
    x, weight, bias, dy, windows = problem(CASES[2])
    y, plain = np.empty_like(dy), np.empty_like(dy)
    conv_forward(x, weight, bias, plain, windows, finish=PLAIN, engine=engine)
    conv_forward(x, weight, bias, y, windows, finish=finish, engine=engine)
    slope = np.reshape(np.broadcast_to(finish.slope, 30), (1, 30, 1, 1))
    np.testing.assert_allclose(y, np.minimum(np.where(plain < 0, plain * slope, plain), finish.cap), atol=1e-6)


@pytest.mark.parametrize("engine", ["winograd", "direct", "panels", "columns"])
def test_finish_when_there_is_a_base_then_it_is_added_before_the_activation(engine, rng):
    x, weight, bias, dy, windows = problem(CASES[2])
    y, plain, base = np.empty_like(dy), np.empty_like(dy), rng.standard_normal(dy.shape).astype(np.float32)
    conv_forward(x, weight, bias, plain, windows, engine=engine)
    conv_forward(x, weight, bias, y, windows, finish=Finish(slope=0.0, base=base), engine=engine)
    np.testing.assert_allclose(y, np.maximum(plain + base, 0), atol=1e-5)


@pytest.mark.parametrize("case", [CASES[2], CASES[4]], ids=str)
def test_winograd_when_the_number_of_threads_changes_then_the_same_bits(case):
    x, weight, bias, dy, windows = problem(case)
    found = []
    for threads in (1, 2, 5):
        set_num_threads(threads)
        try:
            y, dx, dw = np.empty_like(dy), np.empty_like(x), np.zeros_like(weight)
            conv_forward(x, weight, bias, y, windows, engine="winograd")
            conv_transpose(dy, weight, None, dx, windows, engine="winograd")
            conv_weight_gradient(x, dy, dw, windows, engine="winograd")
        finally:
            set_num_threads(None)
        found.append((y.tobytes(), dx.tobytes(), dw.tobytes()))
    assert len(set(found)) == 1


@pytest.mark.parametrize("engine", ["winograd", "panels"])
def test_a_value_that_is_no_number_reaches_the_outputs_that_read_it(engine):
    x, weight, bias, dy, windows = problem(CASES[0])
    x[0, 1, 4, 5] = np.nan
    y = np.empty_like(dy)
    conv_forward(x, weight, bias, y, windows, finish=RELU, engine=engine)
    assert np.isnan(y[:, :, 3:6, 4:7]).all()


@pytest.mark.parametrize("hole", [1, 2, 9])
def test_lines_of_tiles_cover_every_output_once(hole):
    height, width = 23, 31
    rows = tile_rows(2, (height, width), (height, width), hole, (hole, hole))
    seen = np.zeros((2, height, width), int)
    for image, _, _, oy, ox, _, _, outputs, *_, lines in rows:
        for i in range(lines):
            apart = 1 if hole >= 8 else hole
            seen[image, oy + i * hole, ox : ox + outputs * apart : apart] += 1
    assert (seen == 1).all()
    runs = cut_rows(rows, 10)
    assert runs[0][0] == 0
    assert runs[-1][1] == len(rows)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(runs))
