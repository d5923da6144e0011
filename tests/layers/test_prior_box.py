import math

import numpy as np
import pytest

from atrouscaffe.errors import LayerError
from tests.check import make_net

FEATURES, IMAGE = np.zeros((2, 3, 2, 4), np.float32), np.zeros((2, 3, 20, 30), np.float32)


def prior_box(options):
    return f'layer {{ name: "l" type: "PriorBox" bottom: "x" bottom: "i" top: "y" prior_box_param {{ {options} }} }}'


def priors(options, device="cpu", **more):
    return make_net(prior_box(options), {"x": FEATURES, "i": IMAGE}, device=device, **more).forward()["y"]


def naive(sizes, step, image=(20, 30), offset=0.5):
    """Boxes of the given widths and heights around each pixel."""
    found = []
    for row in range(2):
        for column in range(4):
            x, y = (column + offset) * step[1], (row + offset) * step[0]
            for width, height in sizes:
                found += [(x - width / 2) / image[1], (y - height / 2) / image[0],
                          (x + width / 2) / image[1], (y + height / 2) / image[0]]
    return np.array(found)


ROOT = math.sqrt(2)
CASES = {
    "one size": ("min_size: 6", [(6, 6)], (10, 7.5), {}),
    "sizes are cut to whole pixels": ("min_size: 6.9 max_size: 12.9", [(6, 6), (math.sqrt(72),) * 2], (10, 7.5), {}),
    "flipped": ("min_size: 6 aspect_ratio: 2 aspect_ratio: 1 aspect_ratio: 2",
                [(6, 6), (6 * ROOT, 6 / ROOT), (6 / ROOT, 6 * ROOT)], (10, 7.5), {}),
    "not flipped": ("min_size: 6 aspect_ratio: 2 flip: false", [(6, 6), (6 * ROOT, 6 / ROOT)], (10, 7.5), {}),
    "two sizes": ("min_size: 6 min_size: 9 max_size: 8 max_size: 16 aspect_ratio: 2 flip: false",
                  [(6, 6), (math.sqrt(48),) * 2, (6 * ROOT, 6 / ROOT), (9, 9), (12, 12), (9 * ROOT, 9 / ROOT)],
                  (10, 7.5), {}),
    "step and offset": ("min_size: 6 step_h: 9 step_w: 8 offset: 0.25", [(6, 6)], (9, 8), {"offset": 0.25}),
    "image size": ("min_size: 6 img_size: 40", [(6, 6)], (20, 10), {"image": (40, 40)}),
}


@pytest.mark.parametrize("name", CASES)
def test_prior_box_puts_its_boxes_around_each_pixel(name, device):
    options, sizes, step, more = CASES[name]
    out = priors(options, device)
    assert out.shape == (1, 2, 2 * 4 * len(sizes) * 4)
    np.testing.assert_allclose(out[0, 0], naive(sizes, step, **more), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[0, 1], np.full(out.shape[2], 0.1), rtol=1e-6)


def test_prior_box_when_clipped_then_stays_in_the_image():
    out = priors("min_size: 16 clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2")
    np.testing.assert_allclose(out[0, 0], np.clip(naive([(16, 16)], (10, 7.5)), 0, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[0, 1], np.tile([0.1, 0.1, 0.2, 0.2], 8), rtol=1e-6)


@pytest.mark.parametrize(("options", "told"), [
    ("", "min_size: expected one or more"), ("min_size: 0", "min_size"),
    ("min_size: 4 max_size: 4", "above its min_size"),
    ("min_size: 4 max_size: 5 max_size: 6", "as many max_size"), ("min_size: 4 variance: 1 variance: 2", "variance"),
    ("min_size: 4 step_h: 3", "step"), ("min_size: 4 img_size: 3 img_h: 3 img_w: 3", "img_size"),
    ("min_size: 4 aspect_ratio: -1", "aspect_ratio"), ("min_size: inf", "min_size"),
    ("min_size: 4 offset: nan", "offset")])
def test_prior_box_when_options_do_not_fit_then_they_are_named(options, told):
    with pytest.raises(LayerError, match=told):
        priors(options)
