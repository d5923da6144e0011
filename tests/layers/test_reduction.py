import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def reduction(options):
    return f'layer {{ name: "r" type: "Reduction" bottom: "x" top: "y" reduction_param {{ {options} }} }}'


@pytest.mark.parametrize("axis", [0, 1, -2])
@pytest.mark.parametrize(("operation", "reference"), [
    ("SUM", np.sum), ("MEAN", np.mean), ("ASUM", lambda x, axis: np.abs(x).sum(axis)),
    ("SUMSQ", lambda x, axis: (x * x).sum(axis))])
def test_reduction_when_an_axis_is_given_then_the_rest_is_one_number(operation, reference, axis):
    axes = tuple(range(axis % 4, 4))
    check_layer(reduction(f"operation: {operation} axis: {axis} coeff: 0.75"), {"x": X},
                reference=lambda b, _: 0.75 * reference(b["x"], axis=axes))


def test_reduction_when_the_axis_is_not_there_then_refused():
    with pytest.raises(LayerError, match="axis"):
        make_net(reduction("axis: 4"), {"x": X})


@pytest.mark.parametrize("operation", ["SUM", "MEAN"])
def test_reduction_when_there_is_nothing_to_reduce_then_refused(operation):
    with pytest.raises(ShapeError, match="at least one value"):
        make_net(reduction(f"operation: {operation} axis: 1"), {"x": X[:, :, :0]})
