import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def ip(options):
    return f'layer {{ name: "f" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ {options} }} }}'


@pytest.mark.parametrize("axis", [1, 2, -1, 0])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_inner_product_when_axis_is_given_then_the_rest_is_one_vector(axis, transpose, bias):
    def reference(bottoms, params):
        weight = params["f"][0].T if transpose else params["f"][0]
        y = bottoms["x"].reshape(*X.shape[: axis % 4], -1) @ weight.T
        return y + params["f"][1] if bias else y

    options = f"num_output: 7 axis: {axis} transpose: {str(transpose).lower()} bias_term: {str(bias).lower()}"
    check_layer(ip(options), {"x": X}, reference=reference, tolerance=5e-6)


def test_inner_product_when_it_is_large_then_cut_without_a_trace():
    x = np.random.default_rng(1).standard_normal((300, 700)).astype(np.float32)
    check_layer(ip("num_output: 900"), {"x": x}, gradient=False, tolerance=1e-5,
                reference=lambda b, p: b["x"] @ p["f"][0].T + p["f"][1])
    check_layer(ip("num_output: 900 transpose: true"), {"x": x[:1]}, gradient=False, tolerance=1e-5,
                reference=lambda b, p: b["x"] @ p["f"][0] + p["f"][1])


def test_inner_product_when_large_and_backward_then_equals_products():
    draw = np.random.default_rng(1)
    x, dy = draw.standard_normal((5, 700)), draw.standard_normal((5, 900))
    net = make_net(ip("num_output: 900"), {"x": x}, dtype=np.float64)
    net.forward()
    net.backward(y=dy)
    np.testing.assert_allclose(net.params["f"][0].diff, dy.T @ x, atol=1e-9)
    np.testing.assert_allclose(net.blobs["x"].diff, dy @ net.params["f"][0].data, atol=1e-9)


def test_inner_product_when_no_output_is_named_then_refused():
    with pytest.raises(LayerError, match="num_output"):
        make_net(ip(""), {"x": X})
