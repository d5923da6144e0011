import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 7, 9)).astype(np.float32)


def padding(begin, end):
    return (f'layer {{ name: "p" type: "Padding" bottom: "x" top: "y" '
            f"padding_param {{ pad_beg: {begin} pad_end: {end} }} }}")


@pytest.mark.parametrize(("begin", "end"), [(2, 1), (0, 3), (-2, -1), (-3, 0), (0, 0)])
def test_padding_when_positive_or_negative_then_zeros_or_a_crop(begin, end, device):
    want = np.pad(X, ((0, 0), (0, 0), (max(begin, 0), max(end, 0)), (max(begin, 0), max(end, 0))))
    cut = slice(max(-begin, 0), None if end >= 0 else end)
    check_layer(padding(begin, end), {"x": X}, dialect="v1", reference=want[:, :, cut, cut], exact=True, device=device)


@pytest.mark.parametrize(("begin", "end", "error"), [(-1, 2, LayerError), (70000, 0, LayerError), (-4, -3, ShapeError)])
def test_padding_when_it_makes_no_sense_then_refused(begin, end, error):
    with pytest.raises(error):
        make_net(padding(begin, end), {"x": X})
