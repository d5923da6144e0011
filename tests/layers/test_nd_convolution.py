import numpy as np
import pytest
from scipy.signal import correlate

from atrouscaffe.errors import LayerError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6)).astype(np.float32)


def nd(options, kind="NdConvolution"):
    return f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" convolution_param {{ num_output: 2 {options} }} }}'


@pytest.mark.parametrize("kind", ["NdConvolution", "Convolution"])
def test_nd_convolution_when_its_window_is_a_shape_then_that_is_the_window(kind, device):
    def reference(bottoms, params):
        weight, bias = params["l"]
        padded = np.pad(bottoms["x"], [(0, 0), (0, 0), (1, 1), (0, 0), (2, 2)])
        out = np.stack([[sum(correlate(image[c], w[c], "valid") for c in range(3)) for w in weight]
                        for image in padded])
        return out[:, :, ::1, ::2, ::3] + bias.reshape(1, 2, 1, 1, 1)

    check_layer(nd("kernel_shape { dim: 3 dim: 2 dim: 4 } stride_shape { dim: 1 dim: 2 dim: 3 } "
                   "pad_shape { dim: 1 dim: 0 dim: 2 }", kind), {"x": X}, reference=reference, device=device)


@pytest.mark.parametrize(("options", "told"), [
    ("kernel_shape { dim: 3 dim: 3 }", "kernel_shape: expected 1 or 3 values"),
    ("kernel_shape { dim: 3 } kernel_size: 3", "kernel_shape: expected no kernel_size"),
    ("kernel_shape { dim: -3 }", "kernel_shape"), ("kernel_shape { dim: 1000000000000 }", "kernel_shape"),
    ("kernel_shape { }", "kernel_shape: expected a value")])
def test_nd_convolution_when_the_shape_is_none_then_refused(options, told):
    with pytest.raises(LayerError, match=told):
        make_net(nd(options), {"x": X})
