import numpy as np
import pytest

from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((3, 4, 5, 2)).astype(np.float32) * 2 + 1


def bn(mode, bottom="x", top="y"):
    return (f'layer {{ name: "b" type: "BN" bottom: "{bottom}" top: "{top}" '
            f'bn_param {{ bn_mode: {mode} scale_filler {{ value: 1 }} shift_filler {{ value: 0.001 }} }} }}')


def test_bn_when_learning_then_normalises_scales_and_shifts():
    def reference(bottoms, params):
        x, (scale, shift) = bottoms["x"], params["b"]
        return scale * (x - x.mean(axis=(0, 2, 3), keepdims=True)) / x.std(axis=(0, 2, 3), keepdims=True) + shift

    check_layer(bn("LEARN"), {"x": X}, reference=reference)


def test_bn_when_inferring_then_scales_and_shifts():
    check_layer(bn("INFERENCE"), {"x": X}, reference=lambda b, p: b["x"] * p["b"][0] + p["b"][1])


@pytest.mark.parametrize("mode", ["LEARN", "INFERENCE"])
def test_bn_when_it_works_in_place_then_gradients_are_right(mode):
    text = ('layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1.5 } } '
            + bn(mode, bottom="y") + ' layer { name: "r" type: "ReLU" bottom: "y" top: "y" }')
    check_layer(text, {"x": X})


def test_bn_when_made_then_blobs_have_four_axes_and_their_fillers():
    from atrouscaffe import Net

    net = Net('input: "x" input_shape { dim: 1 dim: 4 dim: 3 dim: 2 } ' + bn("LEARN"))
    assert [blob.shape for blob in net.params["b"]] == [(1, 4, 1, 1)] * 2
    np.testing.assert_allclose(net.params["b"][0].data, 1)
    np.testing.assert_allclose(net.params["b"][1].data, 0.001)
    assert make_net(bn("LEARN"), {"x": X}).blobs["y"].shape == X.shape
