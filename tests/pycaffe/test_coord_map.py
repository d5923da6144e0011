"""caffe.coord_map against positions computed by hand, and against what nets really read."""

from __future__ import annotations

import numpy as np
import pytest

import atrouscaffe.pycaffe as caffe
from atrouscaffe.pycaffe import layers as L
from atrouscaffe.pycaffe import params as P
from atrouscaffe.pycaffe.coord_map import AxisMismatchException, coord_map_from_to, crop


def spec(kernel=3, stride=1, pad=0, pool=2, up=2, up_pad=0):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, 100, 100]})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=pool, stride=pool, pad=0)
    n.up = L.Deconvolution(n.pool, num_output=10, kernel_size=[2 * s for s in np.atleast_1d(up)], stride=up, pad=up_pad)
    return n


@pytest.mark.parametrize(("options", "scale", "shift"), [
    ({}, 1, 0), ({"pool": 4, "up": 4}, 1, -1), ({"pad": 7}, 1, -7), ({"up_pad": 7}, 1, 7),
    ({"pad": 5, "up_pad": 5}, 1, 0)])
def test_chains_compose(options, scale, shift):
    n = spec(**options)
    assert coord_map_from_to(n.up, n.data) == (1, scale, shift)


def test_pointwise_layers_and_1x1_change_nothing():
    n = spec(pool=4, up=4)
    n.relu = L.ReLU(n.up)
    n.one = L.Convolution(n.relu, num_output=3, kernel_size=1)
    for top in (n.relu, n.one):
        assert coord_map_from_to(top, n.data) == coord_map_from_to(n.up, n.data)
    axis, scale, shift = coord_map_from_to(n.data, n.data)
    assert axis is None and scale == 1 and shift == 0


def test_axes_may_differ():
    square3, square5 = spec(kernel=3), spec(kernel=5, stride=2, pad=10)
    mixed = spec(kernel=[3, 5], stride=[1, 2], pad=[0, 10])
    axis, scale, shift = coord_map_from_to(mixed.up, mixed.data)
    for i, n in enumerate((square3, square5)):
        assert (axis, scale[i], shift[i]) == coord_map_from_to(n.up, n.data)


def test_three_axes():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 3, 50, 50, 50]})
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=[3, 3, 3], stride=[1, 1, 1], pad=[0, 1, 2])
    axis, scale, shift = coord_map_from_to(n.conv, n.data)
    assert axis == 1 and (scale == 1).all() and shift.tolist() == [1, 0, -1]


def test_dilated_kernels_reach_farther():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 9, 9]})
    n.conv = L.Convolution(n.data, num_output=1, kernel_size=3, dilation=4)
    assert coord_map_from_to(n.conv, n.data)[2] == 4


def test_crops_shift_and_only_their_first_bottom_counts():
    n = spec()
    n.crop = L.Crop(n.up, n.data, axis=2, offset=6)
    assert coord_map_from_to(n.crop, n.data) == (1, 1, 6)


def test_several_bottoms_map_alike():
    n = spec()
    n.aux = L.Input(shape={"dim": [2, 1, 20, 20]})
    n.one, n.two = L.Convolution(n.data, n.aux, ntop=2, num_output=2, kernel_size=5, stride=2)
    assert coord_map_from_to(n.one, n.data) == coord_map_from_to(n.two, n.aux)


def test_crop_brings_an_upsampled_map_back_to_its_pixel(tmp_path):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 33, 29]})
    n.conv = L.Convolution(n.data, num_output=1, kernel_size=3, pad=12, weight_filler={"type": "constant", "value": 1})
    n.pool = L.Pooling(n.conv, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    n.up = L.Deconvolution(n.pool, convolution_param={"num_output": 1, "kernel_size": 4, "stride": 2,
                                                      "weight_filler": {"type": "bilinear"}})
    n.score = crop(n.up, n.data)
    path = tmp_path / "net.prototxt"
    path.write_text(str(n.to_proto()))
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data"].data[0, 0, 14, 10] = 1
    net.forward()
    score = net.blobs["score"].data[0, 0]
    assert score.shape == (33, 29)
    centre = [(score * np.indices(score.shape)[i]).sum() / score.sum() for i in range(2)]
    np.testing.assert_allclose(centre, [14, 10], atol=0.51)


def test_what_cannot_be_mapped_or_cropped_is_refused():
    n = spec()
    n.ip = L.InnerProduct(n.up, num_output=10)
    with pytest.raises(RuntimeError, match="connected by spatial layers"):
        coord_map_from_to(n.ip, n.data)
    n = spec(pool=3, up=2)
    with pytest.raises(AssertionError, match="scale mismatch"):
        crop(n.up, n.data)
    n = spec(up_pad=10)
    with pytest.raises(AssertionError, match="negative offset"):
        crop(n.up, n.data)
    n = spec(kernel=4)
    with pytest.raises(AssertionError):
        crop(n.up, n.data)
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 9, 9]})
    n.conv = L.Convolution(n.data, kernel_h=3, kernel_w=5, num_output=2)
    with pytest.raises(AssertionError, match="_h/_w"):
        coord_map_from_to(n.conv, n.data)
    n.odd = L.Convolution(L.Convolution(n.data, kernel_size=3, axis=2), kernel_size=3)
    with pytest.raises(AxisMismatchException):
        coord_map_from_to(n.odd, n.data)
