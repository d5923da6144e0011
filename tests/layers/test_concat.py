import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def concat(options, *bottoms):
    named = " ".join(f'bottom: "{name}"' for name in bottoms)
    return f'layer {{ name: "c" type: "Concat" {named} top: "y" concat_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "axis"), [("", 1), ("axis: 2", 2), ("axis: -1", 3), ("concat_dim: 0", 0)])
def test_concat_when_an_axis_is_given_then_joined_there(options, axis):
    parts = {"a": X, "b": np.take(X, [0], axis) + 1, "d": np.take(X, [1, 0], axis) * 2}
    check_layer(concat(options, *parts), parts, reference=np.concatenate(list(parts.values()), axis), exact=True)


def test_concat_when_one_bottom_then_copied():
    check_layer(concat("", "a"), {"a": X}, reference=X, exact=True)


@pytest.mark.parametrize(("options", "error", "message"), [("axis: 4", LayerError, "axis"),
                                                           ("axis: 1 concat_dim: 1", LayerError, "both"),
                                                           ("axis: 1", ShapeError, "but for axis 1")])
def test_concat_when_it_does_not_fit_then_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_net(concat(options, "a", "b"), {"a": X, "b": X[:1]})
