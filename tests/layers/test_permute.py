import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def permute(*order):
    named = " ".join(f"order: {axis}" for axis in order)
    return f'layer {{ name: "p" type: "Permute" bottom: "x" top: "y" permute_param {{ {named} }} }}'


@pytest.mark.parametrize(("order", "whole"), [
    ((0, 2, 3, 1), (0, 2, 3, 1)), ((3,), (3, 0, 1, 2)), ((2, 0), (2, 0, 1, 3)), ((), (0, 1, 2, 3))])
def test_permute_when_axes_are_named_then_the_rest_follows(order, whole):
    check_layer(permute(*order), {"x": X}, reference=X.transpose(whole), exact=True)


@pytest.mark.parametrize("order", [(0, 0), (4,), (1, 2, 1)])
def test_permute_when_the_order_is_none_then_refused(order):
    with pytest.raises(LayerError, match="order"):
        make_net(permute(*order), {"x": X})
