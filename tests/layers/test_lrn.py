import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests import naive
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 7, 5, 6)).astype(np.float32) * 3


def lrn(options):
    return f'layer {{ name: "n" type: "LRN" bottom: "x" top: "y" lrn_param {{ {options} }} }}'


@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [
    (5, 0.7, 0.75, 1), (3, 2, 0.5, 2), (9, 1, 0.9, 1), (15, 1, 1, 1), (1, 1, 0.75, 1)])
def test_lrn_when_across_channels_then_equals_loops(size, alpha, beta, k, device):
    check_layer(lrn(f"local_size: {size} alpha: {alpha} beta: {beta} k: {k}"), {"x": X},
                reference=lambda b, _: naive.lrn_across(b["x"], size, alpha, beta, k), device=device)


@pytest.mark.parametrize(("size", "alpha", "beta"), [(3, 1, 0.75), (5, 2, 0.6)])
def test_lrn_when_within_channel_then_equals_loops(size, alpha, beta, device):
    check_layer(lrn(f"local_size: {size} alpha: {alpha} beta: {beta} norm_region: WITHIN_CHANNEL"), {"x": X},
                reference=lambda b, _: naive.lrn_within(b["x"], size, alpha, beta), device=device)


def test_lrn_when_the_window_is_even_then_refused():
    with pytest.raises(LayerError, match="odd"):
        make_net(lrn("local_size: 4"), {"x": X})


@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
def test_lrn_when_there_are_no_values_then_refused(region):
    layer = f'layer {{ name: "n" type: "LRN" bottom: "x" top: "y" lrn_param {{ norm_region: {region} }} }}'
    with pytest.raises(ShapeError, match="at least one value"):
        make_net(layer, {"x": np.zeros((2, 3, 0, 5), np.float32)})
