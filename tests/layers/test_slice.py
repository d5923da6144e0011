import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 6, 4, 5)).astype(np.float32)


def cut(options, tops=3):
    named = " ".join(f'top: "y{i}"' for i in range(tops))
    return f'layer {{ name: "s" type: "Slice" bottom: "x" {named} slice_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "axis", "points"), [
    ("", 1, (2, 4)), ("slice_point: 1 slice_point: 4", 1, (1, 4)),
    ("axis: -1 slice_point: 2 slice_point: 3", 3, (2, 3)),
    ("slice_dim: 2 slice_point: 1 slice_point: 2", 2, (1, 2))])
def test_slice_when_points_are_given_then_cut_there(options, axis, points):
    want = {f"y{i}": part for i, part in enumerate(np.split(X, points, axis))}
    check_layer(cut(options), {"x": X}, reference=want, exact=True)


def test_slice_when_one_top_then_copied():
    check_layer(cut("", 1), {"x": X}, reference=X, exact=True)


@pytest.mark.parametrize(("options", "error"), [
    ("axis: 2", ShapeError), ("slice_point: 1", LayerError), ("slice_point: 4 slice_point: 1", LayerError),
    ("slice_point: 0 slice_point: 1", LayerError), ("slice_point: 1 slice_point: 6", ShapeError),
    ("axis: 1 slice_dim: 1", LayerError), ("axis: 4", LayerError)])
def test_slice_when_it_does_not_fit_then_refused(options, error):
    with pytest.raises(error):
        make_net(cut(options), {"x": X})
