import math

import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net
from tests.layers.test_roi_pooling import half_away

X = np.random.default_rng(0).standard_normal((2, 12, 6, 8)).astype(np.float32)
ROIS = np.array([[0, 0, 0, 15, 11], [1, 4, 3, 9, 8], [1, -5, -3, 2.9, 40], [0, 30, 30, 34, 34], [1, 6, 6, 5, 5]],
                np.float32)


def psroi(options="output_dim: 3 group_size: 2 spatial_scale: 0.5"):
    return ('layer { name: "l" type: "PSROIPooling" bottom: "x" bottom: "r" top: "y" '
            f"psroi_pooling_param {{ {options} }} }}")


def naive(x, scale=0.5, group=2, outputs=3):
    out = np.zeros((len(ROIS), outputs, group, group))
    for n, (item, *corners) in enumerate(ROIS):
        x1, y1, x2, y2 = (half_away(v) for v in corners)
        x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
        height, width = max(y2 - y1, 0.1) / group, max(x2 - x1, 0.1) / group
        for c, i, j in np.ndindex(outputs, group, group):
            rows = [h for h in range(math.floor(i * height + y1), math.ceil((i + 1) * height + y1)) if 0 <= h < 6]
            columns = [w for w in range(math.floor(j * width + x1), math.ceil((j + 1) * width + x1)) if 0 <= w < 8]
            cell = [x[int(item), (c * group + i) * group + j, h, w] for h in rows for w in columns]
            out[n, c, i, j] = np.mean(cell) if cell else 0
    return out


def test_psroi_pooling_takes_the_means_of_cells_in_their_own_channels(device):
    check_layer(psroi(), {"x": X, "r": ROIS}, constant=["r"], device=device, reference=lambda b, _: naive(b["x"]))


@pytest.mark.parametrize(("options", "error", "told"), [
    ("output_dim: 4 group_size: 2 spatial_scale: 0.5", ShapeError, "= 16 channels"),
    ("output_dim: 3 spatial_scale: 0.5", LayerError, "group_size"),
    ("output_dim: 3 group_size: 2", LayerError, "spatial_scale")])
def test_psroi_pooling_when_options_do_not_fit_then_refused(options, error, told):
    with pytest.raises(error, match=told):
        make_net(psroi(options), {"x": X, "r": ROIS})
