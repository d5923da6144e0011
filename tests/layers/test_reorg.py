import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 8, 4, 6)).astype(np.float32)


def reorg(options=""):
    return f'layer {{ name: "l" type: "Reorg" bottom: "x" top: "y" reorg_param {{ {options} }} }}'


def darknet(x, stride, forward):
    """Darknet's own loops over flat arrays."""
    _, channels, height, width = x.shape
    flat, out, thin = x.reshape(-1), np.zeros(x.size, x.dtype), channels // stride**2
    for b, k, j, i in np.ndindex(x.shape):
        here = i + width * (j + height * (k + channels * b))
        offset = k // thin
        column, row = i * stride + offset % stride, j * stride + offset // stride
        there = column + width * stride * (row + height * stride * (k % thin + thin * b))
        if forward:
            out[there] = flat[here]
        else:
            out[here] = flat[there]
    return out


@pytest.mark.parametrize(("options", "forward", "shape"), [
    ("", False, (2, 32, 2, 3)), ("stride: 2", False, (2, 32, 2, 3)),
    ("stride: 2 reverse: true", True, (2, 2, 8, 12))])
def test_reorg_has_darknets_order(options, forward, shape, device):
    check_layer(reorg(options), {"x": X}, exact=True, device=device,
                reference=lambda b, _: darknet(b["x"], 2, forward).reshape(shape))


def test_reorg_when_shapes_do_not_divide_then_refused():
    with pytest.raises(ShapeError, match="multiple of 9"):
        make_net(reorg("stride: 3"), {"x": X})
    with pytest.raises(LayerError, match="stride"):
        make_net(reorg("stride: 0"), {"x": X})
