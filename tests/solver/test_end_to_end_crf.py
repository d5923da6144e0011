"""Net and CRF learn together: the solver's gradients pass through the mean field."""

from __future__ import annotations

import h5py
import numpy as np
from skimage import data as pictures

from atrouscaffe.solver.solver import SGDSolver

NET = """
layer {{ name: "rows" type: "HDF5Data" top: "image" top: "label" top: "dim"
         hdf5_data_param {{ source: "{list}" batch_size: 2 }} }}
layer {{ name: "scale" type: "Power" bottom: "image" top: "small" power_param {{ scale: 0.02 }} }}
layer {{ name: "c1" type: "Convolution" bottom: "small" top: "h"
         convolution_param {{ num_output: 8 kernel_size: 3 pad: 2 dilation: 2 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "r1" type: "ReLU" bottom: "h" top: "h" }}
layer {{ name: "c2" type: "Convolution" bottom: "h" top: "scores"
         convolution_param {{ num_output: 3 kernel_size: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "crf" type: "DenseCRF" bottom: "scores" bottom: "dim" bottom: "image" top: "beliefs"
         dense_crf_param {{ max_iter: 3 pos_xy_std: 3 pos_w: 1 bi_xy_std: 12 bi_rgb_std: 15 bi_w: 1
                            output_probability: false }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "beliefs" bottom: "label" top: "loss" }}
"""

SOLVER = """
train_net: "{net}" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 50 random_seed: 3 snapshot_after_train: false
"""


def test_fifty_iterations_through_the_crf_lower_the_loss(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photograph = pictures.astronaut()[:256:6, 100:400:6, ::-1].astype(np.float32)
    crops = np.stack([photograph[:40, :44], photograph[:40, 6:50]])
    # three labels by brightness of the blurred picture: something that colour and place can tell
    brightness = crops.mean(axis=3)
    label = np.digitize(brightness, np.quantile(brightness, [0.33, 0.67]))
    with h5py.File("rows.h5", "w") as file:
        file["image"] = crops.transpose(0, 3, 1, 2) - 110
        file["label"] = label[:, None].astype(np.float32)
        file["dim"] = np.array([[40, 44], [40, 44]], np.float32).reshape(2, 1, 1, 2)
    (tmp_path / "rows.txt").write_text("rows.h5\n")
    (tmp_path / "net.prototxt").write_text(NET.format(list="rows.txt"))
    (tmp_path / "solver.prototxt").write_text(SOLVER.format(net="net.prototxt"))
    solver = SGDSolver("solver.prototxt")
    losses = []
    for _ in range(50):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert np.abs(solver.net.params["c1"][0].diff).max() > 0
