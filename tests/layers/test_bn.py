import numpy as np
import pytest

from atrouscaffe import Net
from atrouscaffe.errors import LayerError, ShapeError
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
    net = Net('input: "x" input_shape { dim: 1 dim: 4 dim: 3 dim: 2 } ' + bn("LEARN"))
    assert [blob.shape for blob in net.params["b"]] == [(1, 4, 1, 1)] * 2
    np.testing.assert_allclose(net.params["b"][0].data, 1)
    np.testing.assert_allclose(net.params["b"][1].data, 0.001)
    assert make_net(bn("LEARN"), {"x": X}).blobs["y"].shape == X.shape


def statistics(x):
    return x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)


def test_bn_when_it_has_three_tops_then_two_are_the_statistics_of_the_batch(device):
    text = ('layer { name: "b" type: "BN" bottom: "x" top: "y" top: "m" top: "v" '
            "bn_param { scale_filler { value: 1 } shift_filler { value: 0 } } }")

    def reference(bottoms, params):
        mean, variance = statistics(bottoms["x"])
        return {"y": params["b"][0] * (bottoms["x"] - mean) / np.sqrt(variance + 1e-9) + params["b"][1],
                "m": mean, "v": variance}

    check_layer(text, {"x": X}, reference=reference, gradient=False, device=device)


@pytest.mark.parametrize("options", ["bn_mode: INFERENCE", "frozen: true"])
def test_bn_when_it_has_no_batch_statistics_to_give_then_more_tops_are_refused(options):
    with pytest.raises(ShapeError, match="LEARN"):
        make_net(f'layer {{ name: "b" type: "BN" bottom: "x" top: "y" top: "m" bn_param {{ {options} }} }}', {"x": X})


def pspnet(options, bottom="x", top="y"):
    return (f'layer {{ name: "b" type: "BN" bottom: "{bottom}" top: "{top}" '
            f'bn_param {{ slope_filler {{ value: 1 }} bias_filler {{ value: 0 }} {options} }} }}')


RUNNING = {"b": [np.array(values, np.float32).reshape(1, 4, 1, 1) for values in (
    [1, -2, 0.5, 3], [0.5, 0, -1, 2], [1, 2, 0.5, -1], [4, 2, 9, 1.5])]}


def by_running(bottoms, params, eps=1e-5):
    slope, bias, mean, variance = params["b"]
    return slope * (bottoms["x"] - mean) / np.sqrt(variance + eps) + bias


@pytest.mark.parametrize(("options", "phase"), [("", "TEST"), ("frozen: true", "TRAIN"), ("frozen: true", "TEST")])
def test_bn_of_pspnet_when_testing_or_frozen_then_uses_the_running_statistics(options, phase, device):
    net = check_layer(pspnet(options), {"x": X}, phase=phase, params=RUNNING, reference=by_running, device=device)
    for blob, before in zip(net.params["b"], RUNNING["b"]):
        np.testing.assert_array_equal(blob.data, before)
    assert [entry.lr_mult for entry in net.learnable] == ([0, 0, 0, 0] if options else [1, 1, 0, 0])


def test_bn_of_pspnet_when_training_then_uses_the_batch_and_moves_the_running_statistics(device):
    def reference(bottoms, params):
        mean, variance = statistics(bottoms["x"])
        return params["b"][0] * (bottoms["x"] - mean) / np.sqrt(variance + 0.25) + params["b"][1]

    net = make_net(pspnet("momentum: 0.75 eps: 0.25"), {"x": X}, phase="TRAIN", params=RUNNING, device=device)
    net.forward()
    for blob, before, batch in zip(net.params["b"][2:], RUNNING["b"][2:], statistics(X.astype(np.float64))):
        np.testing.assert_allclose(blob.data, 0.75 * before + 0.25 * batch, rtol=1e-5)
    check_layer(pspnet("momentum: 0.75 eps: 0.25"), {"x": X}, phase="TRAIN", params=RUNNING, reference=reference,
                device=device)


@pytest.mark.parametrize(("options", "phase"), [("", "TRAIN"), ("", "TEST"), ("frozen: true", "TRAIN")])
def test_bn_of_pspnet_when_it_works_in_place_then_gradients_are_right(options, phase):
    text = ('layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1.5 } } '
            + pspnet(options, bottom="y") + ' layer { name: "r" type: "ReLU" bottom: "y" top: "y" }')
    check_layer(text, {"x": X}, phase=phase, params=RUNNING)


@pytest.mark.parametrize(("options", "starts"), [("", (1, 0, 0, 0)), ("frozen: true", (1, 0, 0, 1))])
def test_bn_of_pspnet_when_made_then_statistics_start_as_there(options, starts):
    net = Net('input: "x" input_shape { dim: 1 dim: 4 dim: 3 dim: 2 } ' + pspnet(options))
    assert [blob.shape for blob in net.params["b"]] == [(1, 4, 1, 1)] * 4
    for blob, start in zip(net.params["b"], starts):
        np.testing.assert_array_equal(blob.data, np.full((1, 4, 1, 1), start))


def test_bn_without_fields_is_pspnets_among_layers_of_the_second_fork():
    assert len(make_net('layer { name: "b" type: "BN" bottom: "x" top: "y" }', {"x": X}, dialect="v2").params["b"]) == 4
    assert len(make_net('layer { name: "b" type: "BN" bottom: "x" top: "y" }', {"x": X}).params["b"]) == 2


@pytest.mark.parametrize(("options", "told"), [
    ("bn_mode: LEARN frozen: true", "bn_mode beside frozen"), ("momentum: 1.5", "momentum: expected 0 to 1"),
    ("eps: -1", "eps"), ("eps: inf", "eps")])
def test_bn_when_options_do_not_fit_then_they_are_named(options, told):
    with pytest.raises(LayerError, match=told):
        make_net(f'layer {{ name: "b" type: "BN" bottom: "x" top: "y" bn_param {{ {options} }} }}', {"x": X})
