import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.graph.fuse import folded_relus
from tests import naive
from tests.check import check_layer, make_net
from tests.layers.one_layer import small_net

X = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype(np.float32)


def depthwise(kind, options):
    return f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" convolution_param {{ {options} }} }}'


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "ConvolutionDepthwise"])
@pytest.mark.parametrize(("options", "stride", "pad", "hole"), [
    ("num_output: 3 kernel_size: 3", 1, 0, 1), ("num_output: 3 kernel_size: 3 group: 3 stride: 2 pad: 1", 2, 1, 1),
    ("num_output: 6 kernel_size: 3 pad: 2 dilation: 2", 1, 2, 2)])
def test_depthwise_convolution_has_as_many_groups_as_channels(kind, options, stride, pad, hole, device):
    def reference(bottoms, params):
        weight, bias = params["l"]
        return naive.conv(bottoms["x"], weight, bias, (3, 3), (stride,) * 2, (pad,) * 2, (hole,) * 2, 3)

    net = check_layer(depthwise(kind, options), {"x": X}, reference=reference, device=device)
    assert net.params["l"][0].shape[1:] == (1, 3, 3)


def test_depthwise_convolution_does_the_work_of_a_relu_after_it():
    text = depthwise("DepthwiseConvolution", "num_output: 3 kernel_size: 3 weight_filler { type: 'xavier' }")
    relu = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
    plain, folded = small_net(text, {"x": X}, seed=1), small_net(text + relu, {"x": X}, seed=1, keep=["y"], force=False)
    assert folded_relus(folded.graph) == {1: 2}
    np.testing.assert_allclose(folded.forward()["y"], np.maximum(plain.forward()["y"], 0), rtol=1e-12)


@pytest.mark.parametrize(("options", "error", "told"), [
    ("num_output: 3 kernel_size: 3 group: 2", ShapeError, "group: expected the number of channels, got 2"),
    ("num_output: 4 kernel_size: 3", LayerError, r"multiple of group \(3\), got 4"),
    ("kernel_size: 3", LayerError, "num_output")])
def test_depthwise_convolution_when_groups_do_not_fit_then_refused(options, error, told):
    with pytest.raises(error, match=told):
        make_net(depthwise("DepthwiseConvolution", options), {"x": X})
