"""Convolution in groups of few channels on a device against the CPU's loops."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.geometry import Window
from atrouscaffe.ops.conv import conv_forward, conv_transpose, conv_weight_gradient, is_direct
from atrouscaffe.ops.depthwise_cuda import depthwise_forward
from atrouscaffe.ops.finish import PLAIN, RELU
from tests.ops.on_device import compare, devices, run

pytestmark = devices


def problem(seed):
    """Random windows, with holes and strides that share a divisor or none, and the arrays for them."""
    draw = np.random.default_rng(seed)
    while True:
        size = draw.integers(1, 14, 2)
        windows = tuple(Window(int(draw.integers(1, 5)), int(draw.integers(1, 5)), int(draw.integers(0, 4)),
                               int(draw.integers(1, 5))) for _ in range(2))
        if seed % 4 == 0:
            windows = tuple(Window(3, w.stride, w.pad, w.hole) for w in windows)
        if all(n + 2 * w.pad >= w.extent for n, w in zip(size, windows)):
            break
    group, per_in, per_out = int(draw.integers(2, 5)), int(draw.integers(1, 5)), int(draw.integers(1, 5))
    out = [w.conv_size(int(n)) for n, w in zip(size, windows)]
    x, y = draw.standard_normal((2, group * per_in, *size)), draw.standard_normal((2, group * per_out, *out))
    weight = draw.standard_normal((group * per_out, per_in, windows[0].kernel, windows[1].kernel))
    assert is_direct(weight, y.shape[1], group)
    return x, weight, draw.standard_normal(len(weight)), y, draw.standard_normal(x.shape[1]), windows, group


@pytest.mark.parametrize("seed", range(40))
def test_any_windows(seed, device):
    x, weight, bias, y, below, windows, group = problem(seed)

    def work(x, weight, bias, y, dy, dx, below, dweight):
        conv_weight_gradient(x, dy, dweight, windows, group)
        conv_forward(x, weight, bias if seed % 2 else None, y, windows, group)
        conv_transpose(dy, weight, below if seed % 3 else None, dx, windows, group)

    compare(device, work, x, weight, bias, y * np.nan, y, x * np.nan, below, weight.copy())


def test_relu_keeps_what_is_above_zero(device):
    x, weight, bias, y, _, windows, group = problem(0)

    def work(relu):
        return lambda x, weight, bias, y: depthwise_forward(x, weight, bias, y, windows, group, relu)

    plain, positive = (run(device, work(relu), (x, weight, bias, y))[3] for relu in (PLAIN, RELU))
    np.testing.assert_array_equal(positive, np.maximum(plain, 0))


def test_the_weights_of_large_maps_are_added_up_exactly_enough(device, rng):
    windows, shape = (Window(3, 1, 1), Window(3, 1, 1)), (2, 3, 67, 129)
    x, dy = rng.random(shape, np.float32), rng.random(shape, np.float32)

    def work(x, dy, dweight):
        conv_weight_gradient(x, dy, dweight, windows, 3)

    compare(device, work, x, dy, np.zeros((3, 1, 3, 3), np.float32), tolerance=2e-6)
