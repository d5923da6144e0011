import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def reshape(dims, options=""):
    named = " ".join(f"dim: {n}" for n in dims)
    return (f'layer {{ name: "r" type: "Reshape" bottom: "x" top: "y" '
            f"reshape_param {{ shape {{ {named} }} {options} }} }}")


@pytest.mark.parametrize(("dims", "options", "shape"), [
    ((6, 20), "", (6, 20)), ((0, -1, 5), "", (2, 12, 5)), ((12, -1), "axis: 1", (2, 12, 5)),
    ((2, 2), "axis: 2 num_axes: 1", (2, 3, 2, 2, 5)), ((1,), "axis: -1 num_axes: 0", (2, 3, 4, 5, 1)),
    ((-1,), "", (120,)), ((1,), "axis: 1 num_axes: 0", (2, 1, 3, 4, 5)), ((), "axis: 4", (2, 3, 4, 5))])
def test_reshape_when_sizes_are_given_then_as_numpy(dims, options, shape):
    check_layer(reshape(dims, options), {"x": X}, reference=X.reshape(shape), exact=True)


@pytest.mark.parametrize(("dims", "options", "error"), [
    ((-1, -1), "", LayerError), ((-2,), "", LayerError), ((7, -1), "", ShapeError), ((6, 21), "", ShapeError),
    ((1,), "axis: 5", LayerError), ((1,), "axis: 3 num_axes: 2", LayerError), ((2, 3, 4, 5, 0), "", LayerError),
    ((1,), "num_axes: -2", LayerError), ((0, 0, 0, 0, -1), "num_axes: 3", ShapeError)])
def test_reshape_when_sizes_do_not_fit_then_refused(dims, options, error):
    with pytest.raises(error):
        make_net(reshape(dims, options), {"x": X})
