import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests import naive
from tests.check import check_layer, make_net

X = np.random.default_rng(0).permutation(2 * 3 * 9 * 11).reshape(2, 3, 9, 11).astype(np.float32) / 50


def spp(options):
    return f'layer {{ name: "s" type: "SPP" bottom: "x" top: "y" spp_param {{ {options} }} }}'


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
def test_spp_when_three_levels_then_bins_side_by_side(kind):
    def reference(bottoms, _):
        parts = []
        for bins in (1, 2, 4):
            kernel = [-(-n // bins) for n in (9, 11)]
            pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, (9, 11))]
            parts.append(naive.pool(bottoms["x"], kernel, kernel, pad, (bins, bins), kind)[0].reshape(2, -1))
        return np.concatenate(parts, axis=1)

    check_layer(spp(f"pyramid_height: 3 pool: {kind}"), {"x": X}, reference=reference)


def test_spp_when_one_level_then_four_axes():
    check_layer(spp("pyramid_height: 1"), {"x": X}, reference=X.max(axis=(2, 3), keepdims=True), exact=True)


@pytest.mark.parametrize(("options", "error"), [("", LayerError), ("pyramid_height: 0", LayerError),
                                                ("pyramid_height: 40", LayerError), ("pyramid_height: 6", ShapeError),
                                                ("pyramid_height: 2 pool: STOCHASTIC", LayerError)])
def test_spp_when_the_pyramid_is_wrong_then_refused(options, error):
    with pytest.raises(error):
        make_net(spp(options), {"x": X})
