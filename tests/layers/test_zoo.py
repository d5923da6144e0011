"""Small nets of other systems, as their files are: the layers of each against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net

DATA = np.random.default_rng(3).standard_normal((1, 4, 8, 12))


@pytest.fixture
def run(shared_data):
    """Return a net of a file with its parameters drawn, after a forward pass, and the parameters by layer."""
    def made(name, phase=TEST):
        net = Net(shared_data.parent / "cases" / "zoo" / f"{name}.prototxt", phase, dtype=np.float64, seed=2)
        draw = np.random.default_rng(4)
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] = draw.uniform(0.5, 2, blob.shape)
        before = {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}
        net.forward(data=DATA)
        return net, before

    return made


def wide(values):
    return np.reshape(values, (-1, 1, 1))


@pytest.mark.parametrize("phase", [TEST, TRAIN])
def test_pspnet_has_a_frozen_bn(run, phase):
    net, params = run("pspnet_bn", phase)
    slope, bias, mean, variance = params["conv_bn"]
    weight = params["conv"][0]
    padded = np.pad(DATA, [(0, 0), (0, 0), (2, 2), (2, 2)])
    conv = sum(np.einsum("nchw,oc->nohw", padded[:, :, 2 * i:2 * i + 8, 2 * j:2 * j + 12], weight[:, :, i, j])
               for i in range(3) for j in range(3))
    np.testing.assert_allclose(net.blobs["conv"].data, np.maximum(
        slope * (conv - mean) / np.sqrt(variance + np.float32(1e-5)) + bias, 0), rtol=1e-9)
    assert net.blobs["zoom"].shape == (1, 12, 15, 23)
    assert all(entry.lr_mult == 0 for entry in net.learnable[1:])
    for blob, start in zip(net.params["conv_bn"], params["conv_bn"]):
        np.testing.assert_array_equal(blob.data, start)


def test_bayesian_segnet_drops_in_test_by_its_statistics(run):
    net, params = run("bayesian_segnet")
    dropped, samples = net.blobs["conv"].data.copy(), 200
    mean = np.zeros_like(dropped)
    zeros = 0.0
    for _ in range(samples):
        net.forward()
        mean += net.blobs["conv"].data / samples
        zeros += np.mean(net.blobs["conv"].data == 0) / samples
    assert 0.3 < np.mean(dropped == 0) < 0.7 and abs(zeros - 0.5) < 0.01
    weight, bias = params["conv"]
    padded = np.pad(DATA, [(0, 0), (0, 0), (1, 1), (1, 1)])
    conv = sum(np.einsum("nchw,oc->nohw", padded[:, :, i:i + 8, j:j + 12], weight[:, :, i, j])
               for i in range(3) for j in range(3)) + wide(bias)
    assert np.abs(mean - conv).max() < 5 * np.abs(conv).max() / np.sqrt(samples)


def test_depthwise_convolves_each_channel_by_itself(run):
    net, params = run("depthwise")
    x = DATA
    for name in ("dw1", "dw2"):
        weight, bias = params[name]
        padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
        x = sum(padded[:, :, i:i + 8, j:j + 12] * wide(weight[:, 0, i, j]) for i in range(3) for j in range(3))
        x = x + wide(bias)
        np.testing.assert_allclose(net.blobs[name].data, x, rtol=1e-9, atol=1e-12)


def test_normalize_divides_by_the_length_of_the_channels(run):
    net, params = run("normalize")
    length = np.sqrt((DATA**2).sum(axis=1, keepdims=True) + np.float32(1e-10))
    np.testing.assert_allclose(net.blobs["norm"].data, wide(params["norm"][0]) * DATA / length, rtol=1e-9)


def test_senet_scales_a_branch_and_adds_the_other(run):
    net, _ = run("senet_axpy")
    gate = 1 / (1 + np.exp(-DATA.mean(axis=(2, 3), keepdims=True)))
    np.testing.assert_allclose(net.blobs["axpy"].data, gate * DATA + DATA, rtol=1e-9)


def test_shuffle_exchanges_groups_and_channels(run):
    np.testing.assert_array_equal(run("shuffle")[0].blobs["shuffle"].data, DATA[:, [0, 2, 1, 3]])


@pytest.mark.parametrize("phase", [TEST, TRAIN])
def test_batch_norm_of_nvidia_is_batch_norm_and_scale(run, phase):
    net, params = run("nv_batchnorm", phase)
    mean, variance, factor, scale, bias = params["bn"]
    mean, variance = wide(mean / factor), wide(variance / factor)
    if phase == TRAIN:
        mean, variance = (getattr(DATA, word)(axis=(0, 2, 3), keepdims=True) for word in ("mean", "var"))
    np.testing.assert_allclose(net.blobs["bn"].data, wide(scale) * (DATA - mean) / np.sqrt(
        variance + np.float32(1e-5)) + wide(bias), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["pspnet_bn", "nv_batchnorm", "depthwise"])
def test_net_that_keeps_few_blobs_gives_the_same(run, shared_data, name):
    whole, params = run(name)
    net = Net(shared_data.parent / "cases" / "zoo" / f"{name}.prototxt", TEST, keep=[])
    for layer, blobs in net.params.items():
        for blob, values in zip(blobs, params[layer]):
            blob.data[...] = values
    out = net.forward(data=DATA)
    for top, values in out.items():
        np.testing.assert_allclose(values, whole.blobs[top].data, rtol=1e-4, atol=1e-4)
