import numpy as np
import pytest

from atrouscaffe import Net
from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def scale(options="", bottoms='bottom: "x"', top="y"):
    return f'layer {{ name: "s" type: "Scale" {bottoms} top: "{top}" scale_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "shape"), [
    ("", (3, 1, 1)), ("axis: 0 num_axes: 2", (2, 3, 1, 1)), ("axis: -1", (5,)), ("num_axes: -1", (3, 4, 5)),
    ("num_axes: 0", ())])
@pytest.mark.parametrize("bias", [False, True])
def test_scale_when_axes_are_given_then_broadcast_along_the_others(options, shape, bias):
    def reference(bottoms, params):
        y = bottoms["x"] * params["s"][0].reshape(shape)
        return y + params["s"][1].reshape(shape) if bias else y

    check_layer(scale(f"{options} bias_term: {str(bias).lower()}"), {"x": X}, reference=reference)


@pytest.mark.parametrize(("axis", "factor"), [(1, (3, 4)), (0, (2,)), (2, (4, 5)), (0, (2, 3, 4, 5)), (1, ())])
def test_scale_when_the_factor_is_a_bottom_then_it_gets_a_gradient(axis, factor):
    other = np.random.default_rng(1).standard_normal(factor).astype(np.float32)
    wide = factor + (1,) * (4 - axis - len(factor))
    text = scale(f"axis: {axis} bias_term: true", 'bottom: "x" bottom: "f"')
    check_layer(text, {"x": X, "f": other},
                reference=lambda b, p: b["x"] * b["f"].reshape(wide) + p["s"][0].reshape(wide))


def test_scale_when_it_works_in_place_then_gradients_are_right():
    text = ('layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1.5 } } '
            + scale("bias_term: true", 'bottom: "y"') + ' layer { name: "r" type: "ReLU" bottom: "y" top: "y" }')
    check_layer(text, {"x": X})


def test_scale_when_nothing_is_said_then_starts_at_one():
    net = Net('input: "x" input_shape { dim: 2 dim: 3 } ' + scale("bias_term: true"))
    np.testing.assert_array_equal(net.params["s"][0].data, 1)
    np.testing.assert_array_equal(net.params["s"][1].data, 0)


@pytest.mark.parametrize(("text", "error"), [
    (scale("axis: 2 num_axes: 3"), ShapeError), (scale("axis: 4"), LayerError), (scale("num_axes: -2"), LayerError)])
def test_scale_when_axes_are_wrong_then_refused(text, error):
    with pytest.raises(error):
        make_net(text, {"x": X})


def test_scale_when_the_factor_does_not_fit_then_refused():
    with pytest.raises(ShapeError, match=r"bottom\[1\]"):
        make_net(scale("axis: 0", 'bottom: "x" bottom: "f"'), {"x": X, "f": np.ones((3, 4), np.float32)})
