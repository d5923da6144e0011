import numpy as np

from tests.check import check_layer

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
TEXT = 'layer { name: "s" type: "Split" bottom: "x" top: "a" top: "b" top: "c" }'


def test_split_when_several_tops_then_copies_and_summed_gradients():
    check_layer(TEXT, {"x": X}, reference={"a": X, "b": X, "c": X}, exact=True)


def test_split_when_one_copy_is_changed_in_place_then_the_others_are_not():
    net = check_layer(TEXT + ' layer { name: "r" type: "ReLU" bottom: "b" top: "b" }', {"x": X},
                      reference={"a": X, "b": np.maximum(X, 0), "c": X}, exact=True)
    np.testing.assert_array_equal(net.blobs["x"].data, X)
