import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)


def crelu(options=""):
    return f'layer {{ name: "l" type: "CReLU" bottom: "x" top: "y" crelu_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "axis", "slope"), [
    ("", 1, 0), ("concat_axis: 2 negative_slope: 0.25", 2, 0.25), ("concat_axis: -1", 3, 0), ("concat_axis: 0", 0, 0)])
def test_crelu_has_both_halves_of_every_value(options, axis, slope, device):
    def relu(x):
        return np.where(x > 0, x, slope * x)

    check_layer(crelu(options), {"x": X}, device=device,
                reference=lambda b, _: np.concatenate([relu(b["x"]), relu(-b["x"])], axis))


def test_crelu_when_the_axis_is_none_then_refused():
    with pytest.raises(LayerError, match="concat_axis"):
        make_net(crelu("concat_axis: 4"), {"x": X})
