import numpy as np
import pytest

from atrouscaffe import Net
from atrouscaffe.errors import LayerError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((3, 4, 5, 2)).astype(np.float32) * 2 + 1
STATISTICS = {"b": [np.array([1, -2, 3, 0.5]), np.array([4, 2, 9, 1.5]), np.array([2.0])]}


def bn(options="", bottom="x", top="y"):
    return f'layer {{ name: "b" type: "BatchNorm" bottom: "{bottom}" top: "{top}" batch_norm_param {{ {options} }} }}'


def wide(values):
    return np.asarray(values)[:, None, None]


def test_batch_norm_when_in_test_phase_then_uses_the_running_statistics():
    mean, variance, factor = STATISTICS["b"]
    net = check_layer(bn("eps: 0.01"), {"x": X}, params=STATISTICS,
                      reference=lambda b, _: (b["x"] - wide(mean / factor)) / np.sqrt(wide(variance / factor) + 0.01))
    for blob, value in zip(net.params["b"], STATISTICS["b"]):
        np.testing.assert_array_equal(blob.data, value.astype(np.float32))


def test_batch_norm_when_in_train_phase_then_uses_the_batch_and_moves_the_statistics():
    def reference(bottoms, _):
        x = bottoms["x"]
        return (x - x.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + 1e-5)

    net = check_layer(bn("moving_average_fraction: 0.9"), {"x": X}, phase="TRAIN", params=STATISTICS,
                      reference=reference)
    mean, variance, factor = (blob.data for blob in net.params["b"])
    count = X.size / 4
    np.testing.assert_allclose(mean, 0.9 * STATISTICS["b"][0] + X.mean(axis=(0, 2, 3)), rtol=1e-5)
    unbiased = X.var(axis=(0, 2, 3)) * count / (count - 1)
    np.testing.assert_allclose(variance, 0.9 * STATISTICS["b"][1] + unbiased, rtol=1e-5)
    np.testing.assert_allclose(factor, 0.9 * 2 + 1, rtol=1e-6)


def test_batch_norm_when_two_axes_then_channels_are_the_second():
    x = np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32)
    check_layer(bn(), {"x": x}, phase="TRAIN", reference=lambda b, _: (b["x"] - b["x"].mean(axis=0))
                / np.sqrt(b["x"].var(axis=0) + 1e-5))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_batch_norm_when_everything_works_in_place_then_gradients_are_right(phase):
    text = ('layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1.5 } } ' + bn(bottom="y")
            + ' layer { name: "s" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }'
            ' layer { name: "r" type: "ReLU" bottom: "y" top: "y" }')
    check_layer(text, {"x": X}, phase=phase, params=STATISTICS)


def test_batch_norm_when_the_factor_is_zero_then_statistics_are_zero():
    net = make_net(bn("eps: 0.25"), {"x": X}, params={"b": [np.ones(4), np.ones(4), np.zeros(1)]})
    np.testing.assert_allclose(net.forward()["y"], X / 0.5, rtol=1e-6)


def test_batch_norm_when_statistics_are_used_and_updated_then_both():
    net = make_net(bn("use_global_stats: true update_global_stats: true"), {"x": X}, phase="TRAIN", params=STATISTICS)
    mean, variance, factor = STATISTICS["b"]
    want = (X - wide(mean / factor)) / np.sqrt(wide(variance / factor) + 1e-5)
    np.testing.assert_allclose(net.forward()["y"], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.params["b"][0].data, 0.999 * mean + X.mean(axis=(0, 2, 3)), rtol=1e-5)


def test_batch_norm_when_a_solver_looks_then_statistics_do_not_learn():
    net = make_net(bn(), {"x": X}, phase="TRAIN")
    assert [(entry.lr_mult, entry.decay_mult) for entry in net.learnable] == [(0, 0)] * 3


def test_batch_norm_when_blobs_are_dropped_then_nothing_is_saved():
    text = 'input: "x" input_shape { dim: 3 dim: 4 dim: 5 dim: 2 } ' + bn()
    net = Net(text, keep=[])
    net.forward(x=X)
    assert all(not ctx.saved for ctx in net._execution.contexts)


def test_batch_norm_when_the_fraction_is_above_one_then_refused():
    with pytest.raises(LayerError, match="moving_average_fraction"):
        make_net(bn("moving_average_fraction: 1.5"), {"x": X})


SCALED = {"b": [*STATISTICS["b"], np.array([2, 0.5, -1, 3]), np.array([0.25, -1, 0, 2])]}


@pytest.mark.parametrize("options", ["scale_filler { value: 1 }", "bias_filler { value: 0 }", "scale_bias: true",
                                     "scale_filler { value: 1 } bias_filler { value: 0 } engine: CUDNN"])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_batch_norm_with_scale_and_bias_is_that_of_a_scale_layer_after_it(options, phase, device):
    def reference(bottoms, params):
        x, (mean, variance, factor, scale, bias) = bottoms["x"], params["b"]
        mean, variance = wide(mean / factor), wide(variance / factor)
        if phase == "TRAIN":
            mean, variance = (getattr(x, word)(axis=(0, 2, 3), keepdims=True) for word in ("mean", "var"))
        return wide(scale) * (x - mean) / np.sqrt(variance + 1e-5) + wide(bias)

    check_layer(bn(options), {"x": X}, phase=phase, params=SCALED, reference=reference, device=device)
    text = ('layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1.5 } } '
            + bn(options, bottom="y") + ' layer { name: "r" type: "ReLU" bottom: "y" top: "y" }')
    check_layer(text, {"x": X}, phase=phase, params=SCALED)


def test_batch_norm_with_scale_and_bias_when_made_then_only_these_learn():
    net = make_net(bn("scale_bias: true"), {"x": X}, phase="TRAIN", params={})
    assert [(entry.lr_mult, entry.decay_mult) for entry in net.learnable] == [(0, 0)] * 3 + [(1, 1)] * 2
    fresh = Net('input: "x" input_shape { dim: 3 dim: 4 dim: 5 dim: 2 } ' + bn("scale_bias: true"))
    assert [blob.data.ravel().tolist() for blob in fresh.params["b"]] == [[0] * 4, [0] * 4, [0], [1] * 4, [0] * 4]
