import numpy as np
import pytest

from atrouscaffe.errors import DataError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((4, 3, 2, 5)).astype(np.float32)
TEXT = 'layer { name: "b" type: "BatchReindex" bottom: "x" bottom: "i" top: "y" }'


def test_batch_reindex_when_items_repeat_then_gradients_are_summed():
    index = np.array([3, 0, 0, 2, 3, 0], np.float32)
    check_layer(TEXT, {"x": X, "i": index}, reference=X[index.astype(int)], exact=True, constant=["i"])


@pytest.mark.parametrize("value", [-1, 4, np.nan])
def test_batch_reindex_when_an_index_is_outside_then_error(value):
    with pytest.raises(DataError, match="0 to 3"):
        make_net(TEXT, {"x": X, "i": np.array([0, value], np.float32)}).forward()


def test_batch_reindex_when_indices_have_two_axes_then_refused():
    with pytest.raises(ShapeError):
        make_net(TEXT, {"x": X, "i": np.zeros((2, 2), np.float32)})
