import numpy as np
import pytest

from atrouscaffe.errors import ShapeError
from tests.check import check_layer, make_net

X, Z = np.random.default_rng(0).standard_normal((2, 2, 3, 5, 7)).astype(np.float32)
A = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
AXPY = 'layer { name: "l" type: "Axpy" bottom: "a" bottom: "x" bottom: "z" top: "y" }'


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_axpy_is_a_x_plus_z(shape, device):
    check_layer(AXPY, {"a": A.reshape(shape), "x": X, "z": Z}, device=device,
                reference=lambda b, _: b["a"].reshape(2, 3, 1, 1) * b["x"] + b["z"])


def test_axpy_when_one_blob_is_both_then_its_gradients_are_added():
    check_layer(AXPY.replace('bottom: "z"', 'bottom: "x"'), {"a": A, "x": X},
                reference=lambda b, _: (b["a"].reshape(2, 3, 1, 1) + 1) * b["x"])


@pytest.mark.parametrize(("shapes", "told"), [
    (((2, 4), (2, 3, 5, 7), (2, 3, 5, 7)), r"bottom\[0\]"),
    (((2, 3, 1, 7), (2, 3, 5, 7), (2, 3, 5, 7)), r"bottom\[0\]"),
    (((2, 3), (2, 3, 5, 7), (2, 3, 7, 5)), r"bottom\[2\]")])
def test_axpy_when_shapes_do_not_fit_then_the_bottom_is_named(shapes, told):
    with pytest.raises(ShapeError, match=told):
        make_net(AXPY, {name: np.zeros(shape, np.float32) for name, shape in zip("axz", shapes)})
