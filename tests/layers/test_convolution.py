import numpy as np
import pytest

from atrouscaffe import Net
from atrouscaffe.errors import LayerError, ShapeError
from tests import naive
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 6, 7, 9)).astype(np.float32)


def conv(options, bottom="x", top="y"):
    return (f'layer {{ name: "c" type: "Convolution" bottom: "{bottom}" top: "{top}" '
            f"convolution_param {{ {options} }} }}")


@pytest.mark.parametrize(("options", "kernel", "stride", "pad", "hole", "group", "bias"), [
    ("num_output: 5 kernel_size: 3", (3, 3), (1, 1), (0, 0), (1, 1), 1, True),
    ("num_output: 5 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 2", (3, 2), (2, 1), (1, 2), (1, 1),
     1, True),
    ("num_output: 3 kernel_size: 3 dilation: 2 pad: 3 bias_term: false", (3, 3), (1, 1), (3, 3), (2, 2), 1, False),
    ("num_output: 4 kernel_size: 2 kernel_size: 3 stride: 1 stride: 2 dilation: 3 dilation: 1", (2, 3), (1, 2), (0, 0),
     (3, 1), 2, True),
    ("num_output: 6 kernel_size: 3 pad: 1", (3, 3), (1, 1), (1, 1), (1, 1), 6, True),
    ("num_output: 4 kernel_size: 1", (1, 1), (1, 1), (0, 0), (1, 1), 1, True)])
def test_convolution_when_compared_with_loops_and_differences_then_equal(options, kernel, stride, pad, hole, group,
                                                                         bias, device):
    def reference(x, params):
        return naive.conv(x["x"], params["c"][0], params["c"][1] if bias else None, kernel, stride, pad, hole, group)

    check_layer(conv(f"{options} group: {group}"), {"x": X}, reference=reference, device=device)


def test_convolution_when_two_bottoms_then_gradients_are_summed(device):
    text = ('layer { name: "c" type: "Convolution" bottom: "a" bottom: "b" top: "ya" top: "yb" '
            "convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }")
    check_layer(text, {"a": X[:1, :2, :5], "b": X[1:, :2, :5]}, device=device)


def test_convolution_when_axis_is_2_then_one_axis_is_convolved(device):
    x = X.reshape(2, 6, 7, 9)

    def reference(bottoms, params):
        lines = bottoms["x"].reshape(12, 7, 9)
        return naive.conv(lines, *params["c"], (3,), (2,), (1,), (2,)).reshape(2, 6, 4, -1)

    check_layer(conv("num_output: 4 kernel_size: 3 stride: 2 pad: 1 dilation: 2 axis: 2"), {"x": x},
                reference=reference, device=device)


def test_convolution_when_three_axes_then_equals_loops(device):
    x = np.random.default_rng(1).standard_normal((1, 2, 5, 4, 6)).astype(np.float32)
    check_layer(conv("num_output: 3 kernel_size: 3 stride: 2 pad: 1"), {"x": x},
                reference=lambda b, p: naive.conv(b["x"], *p["c"], (3,) * 3, (2,) * 3, (1,) * 3, (1,) * 3),
                device=device)


def test_convolution_when_counted_then_macs_and_reach():
    net = make_net(conv("num_output: 5 kernel_size: 3 dilation: 2 stride: 2 pad: 1 group: 1"), {"x": X})
    layer = net.layers[-1].layer
    shapes = [X.shape], [net.blobs["y"].shape]
    assert layer.macs(*shapes) == 2 * 5 * 3 * 4 * 6 * 9
    height, _ = layer.reach(*shapes)
    assert (height.extent, height.stride, height.pad) == (5, 2, 1)


@pytest.mark.parametrize(("options", "error", "message"), [
    ("kernel_size: 3", LayerError, "num_output"),
    ("num_output: 4", LayerError, "kernel_size"),
    ("num_output: 4 kernel_size: 0", LayerError, "kernel_size: expected 1 to"),
    ("num_output: 4 kernel_size: 4000000000", LayerError, "kernel_size: expected 1 to"),
    ("num_output: 4 kernel_size: 3 stride: 0", LayerError, "stride"),
    ("num_output: 4 kernel_size: 3 kernel_h: 3", LayerError, "kernel_h"),
    ("num_output: 4 kernel_size: 3 kernel_size: 3 kernel_size: 3", LayerError, "expected 1 or 2 values"),
    ("num_output: 5 kernel_size: 3 group: 2", LayerError, "multiple of group"),
    ("num_output: 8 kernel_size: 3 group: 4", ShapeError, "multiple of group"),
    ("num_output: 4 kernel_size: 8", ShapeError, "does not fit")])
def test_convolution_when_options_are_wrong_then_says_what(options, error, message):
    with pytest.raises(error, match=message) as caught:
        make_net(conv(options), {"x": X})
    assert "layer 'c' (Convolution)" in str(caught.value)


@pytest.mark.parametrize("options", ["kernel_size: 3", "kernel_size: 1", "kernel_size: 3 group: 2",
                                     "kernel_size: 3 group: 6"])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_convolution_when_there_are_no_images_then_nothing_happens(kind, options):
    text = conv("num_output: 6 " + options).replace('"Convolution"', f'"{kind}"')
    net = Net('force_backward: true input: "x" input_shape { dim: 0 dim: 6 dim: 7 dim: 9 } ' + text)
    assert net.forward()["y"].shape[:2] == (0, 6)
    net.backward()
    assert not net.params["c"][0].diff.any() and not net.params["c"][1].diff.any()


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "Im2col"])
def test_convolution_when_there_are_no_pixels_then_says_so(kind):
    text = conv("num_output: 6 kernel_size: 3 pad: 2").replace('"Convolution"', f'"{kind}"')
    with pytest.raises(ShapeError, match="at least one pixel"):
        Net('input: "x" input_shape { dim: 2 dim: 6 dim: 0 dim: 9 } ' + text)


def test_convolution_when_a_parameter_stands_still_then_it_gets_no_gradient():
    text = conv("num_output: 3 kernel_size: 3").replace("convolution_param", "param { lr_mult: 0 } convolution_param")
    net = Net('input: "x" input_shape { dim: 2 dim: 6 dim: 7 dim: 9 } ' + text)
    net.params["c"][0].data[...] = 1
    net.forward(x=X)
    net.backward(y=np.ones(net.blobs["y"].shape))
    assert not net.params["c"][0].has_grad or not net.params["c"][0].diff.any()
    np.testing.assert_allclose(net.params["c"][1].diff, net.blobs["y"].data[0, 0].size * 2)
