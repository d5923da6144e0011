import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError
from tests.check import check_layer, make_net

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 3, 4)).astype(np.float32)


def masks(shape, pixels):
    return np.stack([RNG.permutation(pixels)[: shape[2] * shape[3]] for _ in range(shape[0] * shape[1])]
                    ).reshape(shape).astype(np.float32)


def up(options):
    return f'layer {{ name: "u" type: "Upsample" bottom: "x" bottom: "mask" top: "y" upsample_param {{ {options} }} }}'


@pytest.mark.parametrize(("options", "size"), [
    ("scale: 2", (6, 8)), ("scale_h: 2 scale_w: 3", (6, 12)), ("scale: 2 pad_out_h: true", (5, 8)),
    ("upsample_h: 7 upsample_w: 9", (7, 9)), ("", (6, 8))])
def test_upsample_when_sizes_are_given_then_values_stand_where_the_mask_says(options, size, device):
    mask = masks(X.shape, size[0] * size[1])
    want = np.zeros((2, 3, size[0] * size[1]), np.float32)
    np.put_along_axis(want, mask.astype(int).reshape(2, 3, -1), X.reshape(2, 3, -1), 2)
    check_layer(up(options), {"x": X, "mask": mask}, reference=want.reshape(2, 3, *size), exact=True, constant=["mask"],
                device=device)


def test_upsample_when_it_follows_its_pooling_then_maxima_return_to_their_places(device):
    image = RNG.standard_normal((1, 2, 8, 6)).astype(np.float32)
    text = ('layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" '
            "pooling_param { kernel_size: 2 stride: 2 } } "
            'layer { name: "u" type: "Upsample" bottom: "p" bottom: "m" top: "y" upsample_param { scale: 2 } }')
    y = make_net(text, {"x": image}, device=device).forward()["y"]
    blocks = image.reshape(1, 2, 4, 2, 3, 2)
    largest = (blocks == blocks.max(axis=(3, 5), keepdims=True)).reshape(image.shape)
    np.testing.assert_array_equal(y, np.where(largest, image, 0))


@pytest.mark.parametrize("value", [-1, 48, np.nan])
def test_upsample_when_the_mask_points_outside_then_error(value, device):
    mask = masks(X.shape, 48)
    mask[1, 2, 0, 0] = value
    with pytest.raises(DataError, match="expected indices 0 to 47"):
        make_net(up("scale: 2"), {"x": X, "mask": mask}, device=device).forward()


@pytest.mark.parametrize("options", ["scale: 1", "upsample_h: 7", "scale_h: 2", "scale: 3 pad_out_w: true",
                                     "upsample_h: 1 upsample_w: 9"])
def test_upsample_when_options_are_wrong_then_refused(options):
    with pytest.raises(LayerError):
        make_net(up(options), {"x": X, "mask": masks(X.shape, 48)})
