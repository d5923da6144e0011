import numpy as np
import pytest

from tests.check import check_layer

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(("options", "shape"), [
    ("", (3, 1, 1)), ("axis: 0 num_axes: 2", (2, 3, 1, 1)), ("axis: -1", (5,)), ("num_axes: -1", (3, 4, 5)),
    ("num_axes: 0", ())])
def test_bias_when_axes_are_given_then_broadcast_along_the_others(options, shape):
    text = f'layer {{ name: "b" type: "Bias" bottom: "x" top: "y" bias_param {{ {options} }} }}'
    check_layer(text, {"x": X}, reference=lambda b, p: b["x"] + p["b"][0].reshape(shape))


def test_bias_when_it_is_a_bottom_then_it_gets_a_gradient():
    other = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    text = 'layer { name: "b" type: "Bias" bottom: "x" bottom: "f" top: "y" bias_param { axis: 1 } }'
    check_layer(text, {"x": X, "f": other}, reference=lambda b, _: b["x"] + b["f"][:, :, None])


def test_bias_when_it_works_in_place_then_gradients_are_right():
    check_layer('layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1.5 } } '
                'layer { name: "b" type: "Bias" bottom: "y" top: "y" } '
                'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }', {"x": X})
