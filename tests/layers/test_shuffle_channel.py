import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 6, 5, 7)).astype(np.float32)


def shuffle(group):
    return ('layer { name: "l" type: "ShuffleChannel" bottom: "x" top: "y" '
            f"shuffle_channel_param {{ group: {group} }} }}")


@pytest.mark.parametrize(("group", "order"), [
    (1, [0, 1, 2, 3, 4, 5]), (2, [0, 3, 1, 4, 2, 5]), (3, [0, 2, 4, 1, 3, 5]), (6, [0, 1, 2, 3, 4, 5])])
def test_shuffle_channel_takes_the_groups_in_turn(group, order, device):
    check_layer(shuffle(group), {"x": X}, reference=X[:, order], exact=True, device=device)


def test_shuffle_channel_when_channels_do_not_divide_then_refused():
    with pytest.raises(ShapeError, match=r"multiple of group \(4\)"):
        make_net(shuffle(4), {"x": X})
    with pytest.raises(LayerError, match="at least 1"):
        make_net(shuffle(0), {"x": X})
