import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def tile(options):
    return f'layer {{ name: "t" type: "Tile" bottom: "x" top: "y" tile_param {{ {options} }} }}'


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_tile_when_an_axis_is_given_then_repeated_along_it(axis):
    repeats = [1, 1, 1, 1]
    repeats[axis] = 3
    check_layer(tile(f"axis: {axis} tiles: 3"), {"x": X}, reference=np.tile(X, repeats), exact=True)


@pytest.mark.parametrize("options", ["", "tiles: 0", "tiles: -2", "tiles: 2 axis: 4"])
def test_tile_when_options_are_wrong_then_refused(options):
    with pytest.raises(LayerError):
        make_net(tile(options), {"x": X})
