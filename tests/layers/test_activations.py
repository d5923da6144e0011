"""Layers that map each value by itself, against SciPy and NumPy in float64, out of place and in place."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special as sp

from atrouscaffe import TRAIN
from atrouscaffe.errors import LayerError
from atrouscaffe.runtime.threads import set_num_threads
from tests.layers.one_layer import check_gradients, forward, gradients, small_net

SHAPE = (2, 3, 5, 7)

CASES = {  # name: (type, options, reference, shift of the inputs)
    "relu": ("ReLU", "", lambda x: np.where(x > 0, x, 0), 0),
    "relu slope": ("ReLU", "relu_param { negative_slope: 0.25 }", lambda x: np.where(x > 0, x, 0.25 * x), 0),
    "relu above 1": ("ReLU", "relu_param { negative_slope: 2 }", lambda x: np.where(x > 0, x, 2 * x), 0),
    "relu negative": ("ReLU", "relu_param { negative_slope: -0.5 }", lambda x: np.where(x > 0, x, -0.5 * x), 0),
    "relu6": ("ReLU6", "", lambda x: np.minimum(np.maximum(x, 0), 6), 3),
    "elu": ("ELU", "", lambda x: np.where(x > 0, x, np.expm1(x)), 0),
    "elu alpha": ("ELU", "elu_param { alpha: 0.5 }", lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)), 0),
    "sigmoid": ("Sigmoid", "", sp.expit, 0),
    "tanh": ("TanH", "", np.tanh, 0),
    "bnll": ("BNLL", "", lambda x: np.logaddexp(0, x), 0),
    "absval": ("AbsVal", "", np.abs, 0),
    "clip": ("Clip", "clip_param { min: -1 max: 2 }", lambda x: np.clip(x, -1, 2), 0),
    "swish": ("Swish", "", lambda x: x * sp.expit(x), 0),
    "swish beta": ("Swish", "swish_param { beta: 1.75 }", lambda x: x * sp.expit(1.75 * x), 0),
    "hard sigmoid": ("HardSigmoid", "", lambda x: np.clip(x + 3, 0, 6) / 6, 0),
    "hard sigmoid line": ("HardSigmoid", "hardsigmoid_param { alpha: 0.25 }", lambda x: np.clip(x / 4 + 0.5, 0, 1), 0),
    "hard swish": ("HardSwish", "", lambda x: x * np.clip(x + 3, 0, 6) / 6, 0),
    "mish": ("Mish", "", lambda x: x * np.tanh(np.logaddexp(0, x)), 0),
    "power linear": ("Power", "power_param { scale: -2 shift: 0.5 }", lambda x: 0.5 - 2 * x, 0),
    "power square": ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }", lambda x: (1 + 0.5 * x) ** 2, 0),
    "power cube": ("Power", "power_param { power: 3 }", lambda x: x**3, 0),
    "power root": ("Power", "power_param { power: 0.5 shift: 1 }", lambda x: np.sqrt(1 + x), 12),
    "power inverse": ("Power", "power_param { power: -1 scale: 0.5 }", lambda x: 1 / (0.5 * x), 12),
    "power zero": ("Power", "power_param { power: 0 scale: 3 }", lambda x: np.ones_like(x), 0),
    "power flat": ("Power", "power_param { power: 2 scale: 0 shift: 3 }", lambda x: np.full_like(x, 9), 0),
    "exp": ("Exp", "", np.exp, 0),
    "exp base": ("Exp", "exp_param { base: 2 scale: 0.5 shift: -1 }", lambda x: 2 ** (0.5 * x - 1), 0),
    "log": ("Log", "", np.log, 12),
    "log base": ("Log", "log_param { base: 10 scale: 2 shift: 0.5 }", lambda x: np.log10(2 * x + 0.5), 12),
}


def values(rng: np.random.Generator, shift: float) -> np.ndarray:
    """Numbers around `shift`, none near a kink."""
    x = 3 * rng.standard_normal(SHAPE) + shift
    kinks = np.array([-3.0, -2.0, -1.0, 0.0, 2.0, 3.0, 6.0])
    near = np.abs(x[..., None] - kinks).min(-1) < 1e-2
    return np.where(near, x + 0.05, x)


def body(type_name: str, options: str, in_place: bool) -> str:
    """The layer behind an identity; in place it overwrites the identity's output."""
    return (f'layer {{ name: "p" type: "Power" bottom: "x" top: "h" }}\n'
            f'layer {{ name: "l" type: "{type_name}" bottom: "h" top: "{"h" if in_place else "y"}" {options} }}')


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, in_place, rng):
    type_name, options, reference, shift = CASES[name]
    x = values(rng, shift)
    top = "h" if in_place else "y"
    net = small_net(body(type_name, options, in_place), {"x": x})
    net.forward()
    np.testing.assert_allclose(net.blobs[top].data, reference(x), rtol=1e-12, atol=1e-13)
    check_gradients(net, ["x"], [top], tolerance=1e-6)
    single = forward(body(type_name, options, in_place), {"x": x}, top, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, reference(x.astype(np.float32).astype(np.float64)), rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize(("type_name", "options", "slope"), [
    ("ReLU", "", 0), ("ReLU", "relu_param { negative_slope: 0.25 }", 0.25), ("AbsVal", "", 0), ("ReLU6", "", 0),
    ("Clip", "clip_param { min: 0 max: 1 }", 1)])
def test_gradient_at_zero_is_caffes(type_name, options, slope):
    net = small_net(body(type_name, options, False), {"x": np.zeros((2, 3))})
    assert np.array_equal(gradients(net, {"y": 1.0}, ["x"])["x"], np.full((2, 3), slope))


def test_threshold_is_strict_and_has_no_gradient():
    x = np.array([[-1, 0.5, 0.500001, 3]])
    layer = 'layer { name: "l" type: "Threshold" bottom: "x" top: "y" threshold_param { threshold: 0.5 } }'
    assert np.array_equal(forward(layer, {"x": x}, force=False), [[0, 0, 1, 1]])


@pytest.mark.parametrize("type_name", ["Sigmoid", "BNLL", "Swish", "TanH", "ELU", "HardSwish", "Mish"])
def test_large_inputs_stay_finite(type_name):
    x = np.array([[-1e4, -200, -90, 90, 200, 1e4]])
    net = small_net(body(type_name, "", False), {"x": x}, dtype=np.float32)
    dx = gradients(net, {"y": 1.0}, ["x"])["x"]
    assert np.isfinite(net.blobs["y"].data).all() and np.isfinite(dx).all()
    low, high = {"Sigmoid": (0, 0), "BNLL": (0, 1), "Swish": (0, 1), "TanH": (0, 0), "ELU": (0, 1), "HardSwish": (0, 1),
                 "Mish": (0, 1)}[type_name]
    np.testing.assert_allclose(dx[0, [0, -1]], [low, high], atol=1e-6)


@pytest.mark.parametrize("options, value", [
    ("power: 4000 scale: 0 shift: 1e10", np.inf), ("power: 0.5 scale: 0 shift: -2", np.nan),
    ("power: -1 scale: 0", np.inf)])
def test_power_of_a_constant_is_what_pow_gives(options, value):
    net = small_net(body("Power", f"power_param {{ {options} }}", False), {"x": np.ones((1, 2))})
    np.testing.assert_array_equal(net.forward()["y"], [[value, value]])


def test_power_gradient_at_zero_is_not_nan():
    net = small_net(body("Power", "power_param { power: 3 }", False), {"x": np.array([[0.0, 2.0]])})
    assert np.array_equal(gradients(net, {"y": 1.0}, ["x"])["x"], [[0, 12]])


@pytest.mark.parametrize("options", ["relu_param { negative_slope: 0.1 }", ""])
def test_any_number_of_threads_gives_the_same_bits(options, rng):
    x = rng.standard_normal((2, 3, 191, 257)).astype(np.float32)
    results = []
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            net = small_net(f'layer {{ name: "l" type: "ReLU" bottom: "x" top: "y" {options} }}', {"x": x},
                            dtype=np.float32)
            dx = gradients(net, {"y": x[::-1]}, ["x"])["x"]
            results.append((net.blobs["y"].data.copy(), dx))
    finally:
        set_num_threads(None)
    for one, other in zip(*results):
        assert np.array_equal(one, other)
    slope = 0.1 if options else 0
    np.testing.assert_allclose(results[0][0], np.where(x > 0, x, slope * x), rtol=1e-6)


@pytest.mark.parametrize(("layer", "told"), [
    ('type: "Exp" exp_param { base: -3 }', "exp_param.base"), ('type: "Log" log_param { base: 1 }', "log_param.base"),
    ('type: "Clip" clip_param { min: 2 max: 1 }', "min <= max"), ('type: "Clip" clip_param { min: 2 }', "min and max"),
    ('type: "ELU" elu_param { alpha: -1 }', "alpha")])
def test_bad_options_are_named(layer, told):
    with pytest.raises(LayerError, match=told):
        small_net(f'layer {{ name: "l" bottom: "x" top: "y" {layer} }}', {"x": np.zeros((2, 3))})


PRELU = {"channel": "", "shared": "prelu_param { channel_shared: true }"}


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("kind", PRELU)
def test_prelu(kind, in_place, rng):
    x, top = values(rng, 0), "h" if in_place else "y"
    net = small_net(body("PReLU", PRELU[kind], in_place), {"x": x})
    slope = net.params["l"][0]
    assert np.array_equal(slope.data, np.full((3,) if kind == "channel" else (), 0.25))
    slope.data[...] = rng.standard_normal(slope.shape)
    net.forward()
    factor = slope.data.reshape(1, -1, 1, 1)
    np.testing.assert_allclose(net.blobs[top].data, np.where(x > 0, x, factor * x), rtol=1e-13)
    check_gradients(net, ["x", "l:0"], [top])


def test_prelu_gradients_add_up():
    x = np.array([[1.0, -2.0], [-3.0, 4.0]])
    net = small_net('layer { name: "l" type: "PReLU" bottom: "x" top: "y" }', {"x": x})
    first = gradients(net, {"y": 1.0}, ["l:0"])["l:0"]
    net.backward()
    assert np.array_equal(first, [-3, -2])
    assert np.array_equal(net.params["l"][0].diff, 2 * first)


@pytest.mark.parametrize("kind", ["ReLU", "PReLU", "AbsVal", "Swish", "Dropout"])
def test_nothing_is_saved_where_no_backward_follows(kind, rng):
    x = values(rng, 0)
    text = body(kind, "relu_param { negative_slope: -0.5 }" if kind == "ReLU" else "", True)
    for keep, saved in ((None, True), ([], False)):
        net = small_net(text, {"x": x}, phase=TRAIN, keep=keep)
        net.forward()
        assert bool(net._execution.contexts[-1].saved) is saved


def test_prelu_slopes_above_one(rng):
    x = values(rng, 0)
    net = small_net(body("PReLU", "", False), {"x": x})
    net.params["l"][0].data[...] = [0.5, 3, -2]
    net.forward()
    slope = net.params["l"][0].data.reshape(1, 3, 1, 1)
    np.testing.assert_allclose(net.blobs["y"].data, np.where(x > 0, x, slope * x), rtol=1e-13)
    check_gradients(net, ["x", "l:0"])
