import numpy as np
import pytest

from atrouscaffe.ops.inner_product import inner_product, inner_product_data_gradient, inner_product_weight_gradient
from atrouscaffe.runtime.backend import get_backend
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


SHAPES = [(1, 70, 90), (3, 5, 7), (30, 11, 13), (5, 1, 4), (5, 4, 1), (1, 1, 1)]
ROUNDED = {"fp32": 1e-6, "tf32": 2e-3, "fp16": 2e-3}
"""Largest difference from the product in float64, relative to its largest value."""


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_inner_product_when_on_a_device_then_near_the_product(rows, inputs, outputs, transposed, precision, device):
    backend = get_backend(device, precision)
    x, dy = RNG.standard_normal((rows, inputs)), RNG.standard_normal((rows, outputs))
    bias, start = RNG.standard_normal(outputs), RNG.standard_normal((outputs, inputs))
    weight = RNG.standard_normal((outputs, inputs))

    def there(array):
        return backend.asarray(np.ascontiguousarray(array), np.float32)

    def matrix(array):
        return there(array.T).T if transposed else there(array)

    with backend.active():
        kernel, y, dx, dweight = matrix(weight), there(dy), there(x), matrix(start)
        inner_product(there(x), kernel, there(bias), y)
        inner_product_data_gradient(there(dy), kernel, dx)
        inner_product_weight_gradient(there(x), there(dy), dweight)
        found = [backend.to_numpy(array) for array in (y, dx, dweight)]
    for got, want in zip(found, (x @ weight.T + bias, dy @ weight, start + dy.T @ x)):
        np.testing.assert_allclose(got, want, rtol=0, atol=ROUNDED[precision] * max(1, np.abs(want).max()))
