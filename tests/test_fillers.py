"""Fillers: distributions by their moments, exact ones by value."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from atrouscaffe.fillers import fill
from atrouscaffe.formats.prototxt import parse_net
from atrouscaffe.layers.base import Blueprint

SHAPE = (60, 40, 5, 5)


def filled(text, shape=SHAPE, seed=1):
    net = parse_net(f'layer {{ name: "c" type: "Convolution" convolution_param {{ weight_filler {{ {text} }} }} }}')
    return fill(Blueprint(shape, net.layers[0].fields.convolution_param.weight_filler), np.random.default_rng(seed))


@pytest.mark.parametrize("text, mean, std", [
    ('type: "constant" value: 0.25', 0.25, 0),
    ('type: "uniform" min: -1 max: 3', 1, 4 / 12**0.5),
    ('type: "gaussian" mean: 2 std: 0.5', 2, 0.5),
    ('type: "xavier"', 0, (1 / 1000) ** 0.5),
    ('type: "xavier" variance_norm: FAN_OUT', 0, (1 / 1500) ** 0.5),
    ('type: "msra"', 0, (2 / 1000) ** 0.5),
    ('type: "msra" variance_norm: AVERAGE', 0, (2 / 1250) ** 0.5),
])
def test_filler_has_the_moments_of_its_distribution(text, mean, std):
    values = filled(text)
    assert values.shape == SHAPE
    assert values.mean() == pytest.approx(mean, abs=4 * std / values.size**0.5 + 1e-12)
    assert values.std() == pytest.approx(std, rel=0.02, abs=1e-12)
    np.testing.assert_array_equal(values, filled(text))


def test_positive_unitball_sums_to_one_for_each_output():
    values = filled('type: "positive_unitball"')
    assert (values >= 0).all()
    np.testing.assert_allclose(values.sum(axis=(1, 2, 3)), 1)


def test_sparse_gaussian_has_so_many_entries_on_average():
    values = filled('type: "gaussian" std: 1 sparse: 15', (60, 4000))
    assert (values != 0).mean() == pytest.approx(15 / 60, rel=0.02)


@pytest.mark.parametrize("kernel, line", [(4, [0.25, 0.75, 0.75, 0.25]), (3, [0.5, 1, 0.5]), (2, [0.5, 0.5])])
def test_bilinear_is_the_tent_of_upsampling(kernel, line):
    # the tent for factor f = ceil(k/2): 1 - |x/f - (k-1)/2f|
    factor = -(-kernel // 2)
    tent = [1 - abs(x / factor - (kernel - 1) / (2 * factor)) for x in range(kernel)]
    values = filled('type: "bilinear"', (2, 1, kernel, kernel))
    np.testing.assert_allclose(values[1, 0], np.outer(tent, tent))
    np.testing.assert_allclose(tent, line)


def test_unknown_and_unfit_fillers_are_refused():
    with pytest.raises(LayerError, match="unknown filler 'gausian'"):
        filled('type: "gausian"')
    with pytest.raises(LayerError, match="square kernel"):
        filled('type: "bilinear"', (2, 1, 3, 4))
