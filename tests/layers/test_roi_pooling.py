import math

import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).permutation(2 * 3 * 6 * 8).reshape(2, 3, 6, 8).astype(np.float32) / 50
ROIS = np.array([[0, 0, 0, 15, 11], [1, 4, 3, 9, 8], [1, -5, -3, 2.9, 40], [0, 30, 30, 34, 34], [1, 6, 6, 5, 5]],
                np.float32)


def roi(options="pooled_h: 2 pooled_w: 3 spatial_scale: 0.5"):
    return ('layer { name: "l" type: "ROIPooling" bottom: "x" bottom: "r" top: "y" '
            f"roi_pooling_param {{ {options} }} }}")


def half_away(x):
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def naive(x, rois, high, wide, scale):
    out = np.zeros((len(rois), x.shape[1], high, wide))
    for n, (item, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (half_away(v * scale) for v in corners)
        height, width = max(y2 - y1 + 1, 1) / high, max(x2 - x1 + 1, 1) / wide
        for i in range(high):
            for j in range(wide):
                rows = [h for h in range(math.floor(i * height) + y1, math.ceil((i + 1) * height) + y1)
                        if 0 <= h < x.shape[2]]
                columns = [w for w in range(math.floor(j * width) + x1, math.ceil((j + 1) * width) + x1)
                           if 0 <= w < x.shape[3]]
                for c in range(x.shape[1]):
                    out[n, c, i, j] = max((x[int(item), c, h, w] for h in rows for w in columns), default=0)
    return out


def test_roi_pooling_takes_the_maxima_of_cells(device):
    check_layer(roi(), {"x": X, "r": ROIS}, constant=["r"], device=device, exact=True,
                reference=lambda b, _: naive(b["x"], ROIS, 2, 3, 0.5))


def test_roi_pooling_when_regions_have_four_axes_then_the_same():
    check_layer(roi(), {"x": X, "r": ROIS.reshape(5, 5, 1, 1)}, constant=["r"], exact=True,
                reference=lambda b, _: naive(b["x"], ROIS, 2, 3, 0.5))


@pytest.mark.parametrize("region", [[2, 0, 0, 1, 1], [-1, 0, 0, 1, 1], [0, 0, 0, np.inf, 1], [0, np.nan, 0, 1, 1]])
def test_roi_pooling_when_a_region_is_nowhere_then_refused(region):
    net = make_net(roi(), {"x": X, "r": np.array([region], np.float32)})
    with pytest.raises(DataError, match=r"bottom\[1\]"):
        net.forward()


def test_roi_pooling_when_options_do_not_fit_then_refused():
    with pytest.raises(LayerError, match="pooled_h"):
        make_net(roi("pooled_w: 3"), {"x": X, "r": ROIS})
    with pytest.raises(LayerError, match="spatial_scale"):
        make_net(roi("pooled_h: 3 pooled_w: 3 spatial_scale: 0"), {"x": X, "r": ROIS})
    with pytest.raises(ShapeError, match="5 numbers a region"):
        make_net(roi(), {"x": X, "r": ROIS[:, :4]})
