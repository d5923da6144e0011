import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 6, 7, 9)).astype(np.float32)


def crop(options):
    return f'layer {{ name: "c" type: "Crop" bottom: "x" bottom: "ref" top: "y" crop_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "like", "where"), [
    ("", (1, 1, 5, 6), np.s_[:, :, 0:5, 0:6]), ("offset: 2", (1, 1, 5, 6), np.s_[:, :, 2:7, 2:8]),
    ("offset: 1 offset: 3", (1, 1, 5, 6), np.s_[:, :, 1:6, 3:9]),
    ("axis: 1 offset: 2 offset: 0 offset: 1", (1, 4, 7, 8), np.s_[:, 2:6, 0:7, 1:9]),
    ("axis: -1 offset: 4", (1, 1, 1, 5), np.s_[:, :, :, 4:9])])
def test_crop_when_offsets_are_given_then_cut_there(options, like, where, device):
    check_layer(crop(options), {"x": X, "ref": np.zeros(like, np.float32)}, reference=X[where], exact=True,
                constant=["ref"], device=device)


@pytest.mark.parametrize(("options", "like", "error"), [
    ("offset: 4", (1, 1, 5, 6), ShapeError), ("", (1, 1, 8, 6), ShapeError),
    ("offset: 1 offset: 1 offset: 1", (1, 1, 5, 6), LayerError),
    ("", (1, 5, 6), ShapeError), ("offset: 4294967295", (1, 1, 5, 6), ShapeError)])
def test_crop_when_it_does_not_fit_then_refused(options, like, error):
    with pytest.raises(error):
        make_net(crop(options), {"x": X, "ref": np.zeros(like, np.float32)})
