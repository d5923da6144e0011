import numpy as np
import pytest

from atrouscaffe.errors import ShapeError
from tests.check import check_layer, make_net

RNG = np.random.default_rng(0)
X, Z = RNG.standard_normal((4, 3, 2, 5)).astype(np.float32), RNG.standard_normal((4, 2)).astype(np.float32)
TEXT = 'layer { name: "f" type: "Filter" bottom: "x" bottom: "z" bottom: "s" top: "y" top: "w" }'


def test_filter_when_items_are_selected_then_only_they_pass():
    select = np.array([1, 0, 0, 7], np.float32).reshape(4, 1, 1, 1)
    check_layer(TEXT, {"x": X, "z": Z, "s": select}, reference={"y": X[[0, 3]], "w": Z[[0, 3]]}, exact=True,
                constant=["s"])


def test_filter_when_the_choice_changes_then_layers_behind_follow():
    text = TEXT + (' layer { name: "i" type: "InnerProduct" bottom: "y" top: "o" '
                   "inner_product_param { num_output: 3 } }")
    net = make_net(text, {"x": X, "z": Z, "s": np.ones(4, np.float32)})
    for select in ([1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]):
        net.blobs["s"].data[...] = select
        kept = np.flatnonzero(select)
        weight, bias = (blob.data for blob in net.params["i"])
        want = X[kept].reshape(len(kept), 30) @ weight.T + bias
        got = net.forward()["o"]
        np.testing.assert_allclose(got, want, atol=1e-5)
        net.backward(o=np.ones(got.shape))
        np.testing.assert_array_equal(np.abs(net.blobs["x"].diff).sum(axis=(1, 2, 3)) > 0, np.asarray(select) > 0)


def test_filter_when_shapes_do_not_match_then_refused():
    with pytest.raises(ShapeError, match="selector"):
        make_net(TEXT, {"x": X, "z": Z, "s": np.ones((4, 2), np.float32)})
    with pytest.raises(ShapeError, match="items"):
        make_net(TEXT, {"x": X, "z": Z[:3], "s": np.ones(4, np.float32)})
