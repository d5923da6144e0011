"""Dropout: its mask, its scale, its seed; the recorded cases by their properties."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN
from atrouscaffe.errors import LayerError
from atrouscaffe.runtime.threads import set_num_threads
from tests.check import check_layer
from tests.conftest import ORACLE
from tests.layers.one_layer import gradients, small_net
from tests.oracle_run import Case

SAMPLES = "sample_weights_test: true"


def layer(ratio: float, top: str = "y", more: str = "") -> str:
    return (f'layer {{ name: "l" type: "Dropout" bottom: "x" top: "{top}" '
            f'dropout_param {{ dropout_ratio: {ratio} {more} }} }}')


@pytest.mark.parametrize(("ratio", "phase", "more"), [(0.5, TRAIN, ""), (0.3, TRAIN, ""), (0.9, TRAIN, ""),
                                                      (0.5, TEST, SAMPLES), (0.3, TEST, SAMPLES)])
def test_the_right_share_is_kept_and_scaled(ratio, phase, more, rng, device):
    x = rng.uniform(1, 2, (3, 5, 101, 103))
    net = small_net(layer(ratio, more=more), {"x": x}, phase=phase, device=device, dtype=np.float32, seed=3)
    dy = rng.uniform(1, 2, x.shape).astype(np.float32)
    dx = gradients(net, {"y": dy}, ["x"])["x"]
    factor = net.blobs["y"].data / net.blobs["x"].data
    kept = factor > 0
    np.testing.assert_allclose(factor[kept], 1 / (1 - ratio), rtol=1e-6)
    np.testing.assert_allclose(dx, dy * kept / (1 - ratio), rtol=1e-6)
    deviation = np.sqrt(ratio * (1 - ratio) / x.size)
    assert abs(kept.mean() - (1 - ratio)) < 4 * deviation
    for axis in range(4):  # no row, channel or image is special
        shares = np.moveaxis(kept, axis, 0).reshape(x.shape[axis], -1).mean(axis=1)
        assert np.abs(shares - (1 - ratio)).max() < 6 * deviation * np.sqrt(x.shape[axis])
    neighbours = np.corrcoef(kept.ravel()[:-1], kept.ravel()[1:])[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(x.size)


def test_masks_change_from_pass_to_pass_and_repeat_with_the_seed(device):
    x = np.ones((2, 3, 50, 70))
    nets = [small_net(layer(0.5), {"x": x}, phase=TRAIN, device=device, seed=seed) for seed in (5, 5, 6)]
    masks = [[net.forward()["y"].copy() for _ in range(2)] for net in nets]
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0][0], masks[0][1])
    assert not np.array_equal(masks[0][0], masks[2][0])


def test_mask_does_not_depend_on_threads():
    x = np.ones((1, 2, 401, 403))
    results = []
    try:
        for threads in (1, 4):
            set_num_threads(threads)
            results.append(small_net(layer(0.5), {"x": x}, phase=TRAIN, seed=5).forward()["y"].copy())
    finally:
        set_num_threads(None)
    assert np.array_equal(*results)


def test_in_place_uses_one_mask_for_both_passes(rng, device):
    x = rng.uniform(1, 2, (2, 3, 5, 7))
    net = small_net('layer { name: "p" type: "Power" bottom: "x" top: "h" }' + layer(0.4, "h").replace('"x"', '"h"'),
                    {"x": x}, phase=TRAIN, device=device)
    dx = gradients(net, {"h": 1.0}, ["x"])["x"]
    np.testing.assert_allclose(net.blobs["h"].data, dx * x)
    assert 0 < np.count_nonzero(dx) < dx.size


def test_test_phase_is_the_identity(rng, device):
    x, dy = rng.standard_normal((2, 2, 3, 5, 7))
    net = small_net(layer(0.4), {"x": x}, phase=TEST, device=device)
    assert np.array_equal(gradients(net, {"y": dy}, ["x"])["x"], dy)
    assert np.array_equal(net.blobs["y"].data, x)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5])
def test_ratio_out_of_range_is_named(ratio):
    with pytest.raises(LayerError, match="dropout_ratio"):
        small_net(layer(ratio), {"x": np.ones((2, 3))})


@pytest.mark.parametrize("name", ["v1_dropout_train", "v1_dropout_train_03", "v2_dropout_train", "v2_dropout_train_03"])
def test_recorded_cases_agree_in_all_but_the_mask(name, monkeypatch, device):
    folder = ORACLE / "cases" / name
    monkeypatch.chdir(folder)
    case = Case(folder)
    net = case.net(seed=1, device=device)
    net.forward()
    (top, dy), = case.group("topdiff").items()
    net.blobs[top].diff[...] = dy.reshape(net.blobs[top].shape)
    net.backward()
    x, theirs = case.arrays["in:data"], case.arrays[f"out:{top}"]
    scale = float(np.max(theirs / x))
    assert sorted(np.unique(np.round(theirs / x, 5))) == [0, pytest.approx(scale, abs=1e-5)]
    mask = net.blobs[top].data.reshape(x.shape) / x
    assert np.all((mask == 0) | (np.abs(mask - scale) < 1e-5)) and 0 < np.mean(mask == 0) < 1
    np.testing.assert_allclose(net.blobs["data"].diff.reshape(x.shape), mask * dy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(case.arrays["diff:data"], theirs / x * dy, rtol=1e-5, atol=1e-6)


def test_gradient_is_the_masks(rng):
    check_layer(layer(0.3), {"x": rng.standard_normal((2, 3, 5, 7))}, phase="TRAIN")
