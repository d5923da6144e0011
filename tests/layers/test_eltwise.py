"""Eltwise and SpatialProduct against NumPy, gradients by differences, ties as in Caffe."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer
from tests.layers.one_layer import check_gradients, gradients, small_net

SHAPE = (2, 3, 5, 7)


def layer(count: int, options: str) -> str:
    bottoms = " ".join(f'bottom: "{name}"' for name in "abcd"[:count])
    return f'layer {{ name: "l" type: "Eltwise" {bottoms} top: "y" eltwise_param {{ {options} }} }}'


def bottoms(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    return {name: rng.standard_normal(SHAPE) for name in "abcd"[:count]}


@pytest.mark.parametrize(("count", "options", "reference"), [
    (2, "", lambda a, b: a + b),
    (3, "operation: SUM", lambda a, b, c: a + b + c),
    (2, "coeff: 1 coeff: -1", lambda a, b: a - b),
    (4, "coeff: 0.5 coeff: -1 coeff: 2 coeff: 1", lambda a, b, c, d: 0.5 * a - b + 2 * c + d),
    (2, "operation: PROD", lambda a, b: a * b),
    (4, "operation: PROD", lambda a, b, c, d: a * b * c * d),
    (3, "operation: PROD stable_prod_grad: false", lambda a, b, c: a * b * c),
    (2, "operation: MAX", lambda a, b: np.maximum(a, b)),
    (4, "operation: MAX", lambda a, b, c, d: np.maximum(np.maximum(a, b), np.maximum(c, d)))])
def test_values_and_gradients(count, options, reference, rng):
    inputs = bottoms(rng, count)
    net = small_net(layer(count, options), inputs)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, reference(*inputs.values()), rtol=1e-14, atol=1e-15)
    check_gradients(net, list(inputs))


def naive_max_owner(values):
    """The original's order of comparisons, value by value."""
    owner = 0 if values[0] > values[1] else 1
    for i in range(2, len(values)):
        if values[i] > values[owner]:
            owner = i
    return owner


def test_max_ties_follow_the_originals_order():
    grid = np.array(np.meshgrid(*[[1.0, 2.0]] * 4)).reshape(4, -1)  # all patterns of ties of four bottoms
    net = small_net(layer(4, "operation: MAX"), {name: row[None] for name, row in zip("abcd", grid)})
    found = gradients(net, {"y": 1.0}, "abcd")
    for column, values in enumerate(grid.T):
        owners = [name for name in "abcd" if found[name][0, column] == 1]
        assert owners == ["abcd"[naive_max_owner(values)]]


def test_stable_product_gradient_survives_zeros():
    inputs = {"a": np.array([[0.0, 0.0]]), "b": np.array([[3.0, 0.0]]), "c": np.array([[5.0, 2.0]])}
    found = gradients(small_net(layer(3, "operation: PROD"), inputs), {"y": 1.0}, "abc")
    assert np.array_equal(found["a"], [[15, 0]]) and np.array_equal(found["c"], [[0, 0]])


def test_the_same_blob_twice(rng):
    x = rng.standard_normal(SHAPE)
    net = small_net('layer { name: "l" type: "Eltwise" bottom: "x" bottom: "x" top: "y" eltwise_param '
                    '{ operation: PROD } }', {"x": x})
    np.testing.assert_allclose(gradients(net, {"y": 1.0}, ["x"])["x"], 2 * x)


@pytest.mark.parametrize(("options", "error"), [("operation: PROD coeff: 1 coeff: 2", LayerError),
                                                ("coeff: 1 coeff: 2 coeff: 3", LayerError)])
def test_bad_coefficients_are_named(options, error):
    with pytest.raises(error, match="coeff"):
        small_net(layer(2, options), {"a": np.ones(SHAPE), "b": np.ones(SHAPE)})


def test_shapes_must_agree():
    with pytest.raises(ShapeError, match=r"bottom\[1\].*\(2, 3, 5, 7\).*\(2, 3, 7, 5\)"):
        small_net(layer(2, ""), {"a": np.ones(SHAPE), "b": np.ones((2, 3, 7, 5))})


def test_spatial_product(rng):
    inputs = {"a": rng.standard_normal(SHAPE), "b": rng.standard_normal((2, 1, 5, 7))}
    net = small_net('layer { name: "l" type: "SpatialProduct" bottom: "a" bottom: "b" top: "y" }', inputs)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, inputs["a"] * inputs["b"])
    check_gradients(net, "ab")
    with pytest.raises(ShapeError, match=r"bottom\[1\]"):
        small_net('layer { name: "l" type: "SpatialProduct" bottom: "a" bottom: "b" top: "y" }',
                  {"a": np.ones(SHAPE), "b": np.ones(SHAPE)})


def test_silence_swallows_and_gives_no_gradient(rng):
    net = small_net('layer { name: "p" type: "Power" bottom: "x" top: "h" } '
                    'layer { name: "q" type: "Power" bottom: "x" top: "y" power_param { scale: 3 } } '
                    'layer { name: "l" type: "Silence" bottom: "h" }', {"x": rng.standard_normal(SHAPE)})
    assert net.outputs == ["y"]
    net.blobs["h"].diff[...] = 9
    assert np.array_equal(gradients(net, {"y": 1.0}, ["x"])["x"], np.full(SHAPE, 3))


def test_silence_adds_nothing_to_the_gradient(rng):
    check_layer('layer { name: "q" type: "Power" bottom: "x" top: "y" power_param { power: 3 } } '
                'layer { name: "l" type: "Silence" bottom: "x" }', {"x": rng.standard_normal((2, 3, 5))})
