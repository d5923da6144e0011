import numpy as np
import pytest

from atrouscaffe.ops.inner_product import inner_product, inner_product_data_gradient, inner_product_weight_gradient
from atrouscaffe.runtime.threads import serial_blas, set_num_threads

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [
    (1, 700, 900), (3, 5, 7), (300, 11, 13), (600, 64, 130), (1, 1, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_inner_product_when_cut_then_equals_one_product_for_any_threads(rows, inputs, outputs, transposed):
    x, dy = RNG.standard_normal((rows, inputs)), RNG.standard_normal((rows, outputs))
    bias = RNG.standard_normal(outputs)
    weight = RNG.standard_normal((inputs, outputs)).T if transposed else RNG.standard_normal((outputs, inputs))
    results = []
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            y, dx, dweight = np.empty_like(dy), np.empty_like(x), np.ones_like(weight)
            with serial_blas():
                inner_product(x, weight, bias, y)
                inner_product_data_gradient(dy, weight, dx)
                inner_product_weight_gradient(x, dy, dweight)
            results.append((y, dx, dweight))
    finally:
        set_num_threads(None)
    for got, want in zip(results[0], (x @ weight.T + bias, dy @ weight, 1 + dy.T @ x)):
        np.testing.assert_allclose(got, want, atol=1e-11)
    for one, three in zip(*results):
        assert one.tobytes() == three.tobytes()
