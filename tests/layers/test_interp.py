import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests import naive
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 7, 9)).astype(np.float32)


def interp(options):
    return f'layer {{ name: "i" type: "Interp" bottom: "x" top: "y" interp_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "out", "crop"), [
    ("zoom_factor: 2", (13, 17), (0, 0)), ("shrink_factor: 2", (4, 5), (0, 0)), ("shrink_factor: 3", (3, 3), (0, 0)),
    ("height: 5 width: 12", (5, 12), (0, 0)), ("height: 1 width: 9", (1, 9), (0, 0)),
    ("zoom_factor: 2 pad_beg: -1 pad_end: -2", (7, 11), (1, 2)),
    ("height: 4 width: 6 pad_beg: -2 pad_end: -1", (4, 6), (2, 1)),
    ("shrink_factor: 3 zoom_factor: 2", (5, 5), (0, 0)),
    ("shrink_factor: 3 zoom_factor: 2 height: 4 width: 5", (4, 5), (0, 0)),
    ("shrink_factor: 2 height: 4 width: 8", (4, 5), (0, 0)), ("zoom_factor: 1", (7, 9), (0, 0))])
def test_interp_when_sizes_are_given_then_equals_loops(options, out, crop, device):
    check_layer(interp(options), {"x": X}, reference=lambda b, _: naive.interp(b["x"], out, crop), device=device)


def test_interp_when_sizes_are_equal_then_copies(device):
    check_layer(interp("height: 7 width: 9"), {"x": X}, reference=X, exact=True, device=device)


@pytest.mark.parametrize("options", ["shrink_factor: 3 zoom_factor: 2", "shrink_factor: 2 height: 4 width: 8"])
def test_interp_when_the_first_fork_gets_two_sizes_then_refused(options):
    with pytest.raises(LayerError, match="with"):
        make_net(interp(options), {"x": X}, dialect="v1")


@pytest.mark.parametrize(("options", "error"), [
    ("", LayerError), ("height: 5", LayerError), ("zoom_factor: 0", LayerError), ("shrink_factor: -1", LayerError),
    ("zoom_factor: 2 pad_beg: 1", LayerError), ("height: 0 width: 3", LayerError),
    ("height: 3 width: 70000", LayerError),
    ("zoom_factor: 2 pad_beg: -5 pad_end: -2", ShapeError)])
def test_interp_when_options_are_wrong_then_refused(options, error):
    with pytest.raises(error):
        make_net(interp(options), {"x": X})


@pytest.mark.parametrize(("options", "height"), [
    ("zoom_factor: 8", (2, 1, 0, 8)), ("shrink_factor: 2", (1, 2, 0, 1)), ("height: 5 width: 5", (2, 3, 0, 2)),
    ("shrink_factor: 2 pad_beg: -2", (1, 2, -2, 1))])
def test_interp_when_asked_for_its_reach_then_two_pixels_or_one(options, height):
    net = make_net(interp(options), {"x": X})
    reach, _ = net.layers[-1].layer.reach([X.shape], [net.blobs["y"].shape])
    assert (reach.extent, reach.stride, reach.pad, reach.up) == height
