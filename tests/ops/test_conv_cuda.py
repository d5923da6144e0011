"""Convolution by columns on a device against the CPU's: any windows, groups, and blocks of columns."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import DeviceError
from atrouscaffe.geometry import Window
from atrouscaffe.ops import conv_cuda
from atrouscaffe.ops.conv import conv_bias_gradient, conv_forward, conv_transpose, conv_weight_gradient
from atrouscaffe.ops.finish import RELU
from atrouscaffe.ops.im2col import col2im, im2col
from atrouscaffe.runtime.backend import get_backend
from tests.ops.on_device import compare, devices

pytestmark = devices


def problem(seed):
    """Random windows, with holes and strides that share a divisor or none, and input sizes for them."""
    draw = np.random.default_rng(seed)
    while True:
        size = tuple(int(n) for n in draw.integers(1, 14, 2))
        windows = tuple(Window(int(draw.integers(1, 5)), int(draw.integers(1, 5)), int(draw.integers(0, 4)),
                               int(draw.integers(1, 5))) for _ in range(2))
        if seed % 7 == 0:
            windows = (Window(1), Window(1))
        if all(n + 2 * w.pad >= w.extent for n, w in zip(size, windows)):
            return draw, size, windows, tuple(w.conv_size(n) for n, w in zip(size, windows))


@pytest.mark.parametrize("seed", range(20))
def test_columns_and_back(seed, device):
    draw, size, windows, out = problem(seed)
    images = draw.standard_normal((2, 3, *size)).astype(np.float32)
    columns = draw.standard_normal((2, 3 * windows[0].kernel * windows[1].kernel, *out)).astype(np.float32)

    def work(images, columns, made, back):
        im2col(images, made, windows)
        col2im(columns, back, windows)

    compare(device, work, images, columns, columns * np.nan, images * np.nan, tolerance=1e-5)


@pytest.mark.parametrize("seed", range(24))
def test_convolution_and_its_gradients(seed, device, monkeypatch):
    draw, size, windows, out = problem(seed)
    group = int(draw.integers(1, 3))
    inputs, outputs = group * int(draw.integers(5, 7)), group * int(draw.integers(1, 7))
    x, dy = draw.standard_normal((3, inputs, *size)), draw.standard_normal((3, outputs, *out))
    weight = draw.standard_normal((outputs, inputs // group, windows[0].kernel, windows[1].kernel))
    bias, below = draw.standard_normal(outputs), draw.standard_normal(inputs)
    # one block; one an image; several an image
    monkeypatch.setattr(conv_cuda, "COLUMN_BYTES", (2**28, 8 * inputs * weight[0, 0].size * dy[0, 0].size, 1)[seed % 3])

    def work(x, weight, bias, below, dy, y, dx, dweight, dbias):
        conv_forward(x, weight, bias if seed % 2 else None, y, windows, group)
        conv_transpose(dy, weight, below if seed % 4 else None, dx, windows, group)
        conv_weight_gradient(x, dy, dweight, windows, group)
        conv_bias_gradient(dy, dbias)

    compare(device, work, x, weight, bias, below, dy, dy * np.nan, x * np.nan, weight.copy(), bias.copy())


@pytest.mark.parametrize("group", [1, 5])
def test_relu_behind_a_convolution_when_a_sum_is_infinite_or_nan_then_as_on_the_cpu(group, device):
    x, weight = np.ones((1, 5, 2, 3), np.float32), np.ones((5, 5 // group, 1, 1), np.float32)
    bias = np.array([-np.inf, np.inf, np.nan, -90, 7], np.float32)

    def work(x, weight, bias, y):
        conv_forward(x, weight, bias, y, (Window(1), Window(1)), group, RELU)

    compare(device, work, x, weight, bias, x * np.nan)


def test_way_when_there_are_more_numbers_than_the_implicit_kernels_count_then_is_explicit(device, monkeypatch):
    shape, windows = (3000, 64, 128, 128), (Window(1), Window(1))
    x, weight = np.broadcast_to(np.float32(0), shape), np.ones((64, 64, 1, 1), np.float32)

    def chosen() -> str:
        with get_backend(device).active():
            return conv_cuda._way(x, weight, None, x, windows, 1, False)

    monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", "measured")
    assert chosen() == "explicit"
    monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", "implicit")
    with pytest.raises(DeviceError, match="smaller batch"):
        chosen()
