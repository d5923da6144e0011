import numpy as np
import pytest

from atrouscaffe import Net
from atrouscaffe.errors import ShapeError
from tests import naive
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 6, 4, 5)).astype(np.float32)


def deconv(options):
    return f'layer {{ name: "d" type: "Deconvolution" bottom: "x" top: "y" convolution_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "window", "group", "bias"), [
    ("num_output: 5 kernel_size: 3", (3, 1, 0, 1), 1, True),
    ("num_output: 4 kernel_size: 4 stride: 2 pad: 1", (4, 2, 1, 1), 2, True),
    ("num_output: 6 kernel_size: 4 stride: 2 pad: 1 bias_term: false", (4, 2, 1, 1), 6, False),
    ("num_output: 6 kernel_size: 2 stride: 3", (2, 3, 0, 1), 6, True),
    ("num_output: 3 kernel_size: 3 dilation: 2 pad: 1", (3, 1, 1, 2), 3, True),
    ("num_output: 3 kernel_size: 1", (1, 1, 0, 1), 1, True)])
def test_deconvolution_when_compared_with_loops_and_differences_then_equal(options, window, group, bias, device):
    k, s, p, h = window

    def reference(bottoms, params):
        x, weight = bottoms["x"], params["d"][0]
        size = [s * (n - 1) + (k - 1) * h + 1 - 2 * p for n in x.shape[2:]]
        below = np.zeros((2, weight.shape[1] * group, *size))
        y = naive.conv_gradients(below, weight, x, (k, k), (s, s), (p, p), (h, h), group)[0]
        return y + params["d"][1][:, None, None] if bias else y

    check_layer(deconv(f"{options} group: {group}"), {"x": X}, reference=reference, device=device)


def test_deconvolution_when_filler_is_bilinear_then_enlarges_by_the_stride():
    text = deconv('num_output: 6 group: 6 kernel_size: 4 stride: 2 pad: 1 bias_term: false '
                  'weight_filler { type: "bilinear" }')
    net = Net('input: "x" input_shape { dim: 2 dim: 6 dim: 4 dim: 5 } ' + text)
    y = net.forward(x=X)["y"]
    assert y.shape == (2, 6, 8, 10)
    np.testing.assert_allclose(y[:, :, 3, 5], (3 * (3 * X[:, :, 1, 2] + X[:, :, 1, 3])
                                               + 3 * X[:, :, 2, 2] + X[:, :, 2, 3]) / 16, atol=1e-6)


def test_deconvolution_when_counted_then_macs_and_reach():
    net = make_net(deconv("num_output: 5 kernel_size: 4 stride: 2 pad: 1"), {"x": X})
    layer = net.layers[-1].layer
    shapes = [X.shape], [net.blobs["y"].shape]
    assert layer.macs(*shapes) == X.size * 5 * 16
    height, _ = layer.reach(*shapes)
    assert (height.extent, height.stride, height.pad, height.up) == (2, 1, 1, 2)


def test_deconvolution_when_nothing_is_left_then_refused():
    with pytest.raises(ShapeError, match="leaves"):
        make_net(deconv("num_output: 5 kernel_size: 1 pad: 3"), {"x": X})
