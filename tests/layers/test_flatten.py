import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def flatten(options=""):
    return f'layer {{ name: "f" type: "Flatten" bottom: "x" top: "y" flatten_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "shape"), [
    ("", (2, 60)), ("axis: 1 end_axis: 2", (2, 12, 5)), ("axis: 2", (2, 3, 20)), ("axis: 0 end_axis: -3", (6, 4, 5)),
    ("axis: -1", (2, 3, 4, 5))])
def test_flatten_when_axes_are_given_then_they_are_one(options, shape):
    check_layer(flatten(options), {"x": X}, reference=X.reshape(shape), exact=True)


@pytest.mark.parametrize("options", ["axis: 4", "end_axis: 4", "axis: 2 end_axis: 1"])
def test_flatten_when_axes_are_wrong_then_refused(options):
    with pytest.raises(LayerError, match="axis"):
        make_net(flatten(options), {"x": X})
