import math

import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError, ShapeError
from tests.check import check_layer, make_net

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 6, 7)).astype(np.float32)
EDGES = RNG.random((2, 1, 6, 7)).astype(np.float32)
SIZES = np.array([[6, 7], [4, 5]], np.float32).reshape(2, 2, 1, 1)


def transform(options="num_iter: 2 spatial_sigma: 4 range_sigma: 2", type_name="DomainTransform"):
    return (f'layer {{ name: "d" type: "{type_name}" bottom: "x" bottom: "e" bottom: "size" top: "y" '
            f"domain_transform_param {{ {options} }} }}")


def loops(x, edges, sizes, iterations, spatial, width_of_range, least=0.0):
    y = x.copy()
    for n, (height, width) in enumerate(sizes.reshape(-1, 2).astype(int)):
        for k in range(1, iterations + 1):
            sigma = spatial * math.sqrt(3) * 2 ** (iterations - k) / math.sqrt(4**iterations - 1)
            weight = np.exp(-math.sqrt(2) / sigma * (1 + edges[n, 0] * spatial / width_of_range)).clip(least, 1)
            plane = y[n]
            for j in range(1, width):
                plane[:, :height, j] += weight[:height, j] * (plane[:, :height, j - 1] - plane[:, :height, j])
            for j in range(width - 2, -1, -1):
                plane[:, :height, j] += weight[:height, j + 1] * (plane[:, :height, j + 1] - plane[:, :height, j])
            for i in range(1, height):
                plane[:, i, :width] += weight[i, :width] * (plane[:, i - 1, :width] - plane[:, i, :width])
            for i in range(height - 2, -1, -1):
                plane[:, i, :width] += weight[i + 1, :width] * (plane[:, i + 1, :width] - plane[:, i, :width])
    return y


@pytest.mark.parametrize(("type_name", "gradient"), [("DomainTransform", True), ("DomainTransformForwardOnly", False)])
def test_domain_transform_when_images_are_smaller_than_the_blob_then_equals_loops(type_name, gradient, device):
    check_layer(transform(type_name=type_name), {"x": X, "e": EDGES, "size": SIZES}, gradient=gradient,
                constant=["size"], reference=lambda b, _: loops(b["x"], b["e"], b["size"], 2, 4, 2), device=device)


def test_domain_transform_when_weights_are_held_up_then_at_least_min_weight(device):
    check_layer(transform("num_iter: 1 spatial_sigma: 2 range_sigma: 0.5 min_weight: 0.3"),
                {"x": X, "e": EDGES, "size": SIZES}, gradient=False,
                reference=lambda b, _: loops(b["x"], b["e"], b["size"], 1, 2, 0.5, 0.3), device=device)


def test_domain_transform_when_only_forward_then_no_gradient_passes():
    net = make_net(transform(type_name="DomainTransformForwardOnly"), {"x": X, "e": EDGES, "size": SIZES})
    net.forward()
    net.blobs["x"].diff[...] = 5
    net.backward(y=X)
    assert (net.blobs["x"].diff == 5).all()


@pytest.mark.parametrize("options", ["num_iter: 0", "num_iter: 1000", "spatial_sigma: 0", "range_sigma: -1",
                                     "min_weight: 1"])
def test_domain_transform_when_options_are_wrong_then_refused(options):
    with pytest.raises(LayerError):
        make_net(transform(options), {"x": X, "e": EDGES, "size": SIZES})


def test_domain_transform_when_sizes_are_wrong_then_refused():
    with pytest.raises(ShapeError, match="edges"):
        make_net(transform(), {"x": X, "e": X, "size": SIZES})
    with pytest.raises(ShapeError, match="height and width"):
        make_net(transform(), {"x": X, "e": EDGES, "size": SIZES[:1]})
    for bad in (7, -1, np.nan):
        sizes = SIZES.copy()
        sizes[1, 0] = bad
        with pytest.raises(DataError, match="image 1"):
            make_net(transform(), {"x": X, "e": EDGES, "size": sizes}).forward()
