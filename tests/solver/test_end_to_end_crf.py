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


RECURRENT = """
layer { name: "rows" type: "HDF5Data" top: "image" top: "label"
        hdf5_data_param { source: "rows.txt" batch_size: 2 shuffle: true } }
layer { name: "scale" type: "Power" bottom: "image" top: "small" power_param { scale: 0.02 } }
layer { name: "c1" type: "Convolution" bottom: "small" top: "h" param { lr_mult: 1 }
        convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "msra" } } }
layer { name: "r1" type: "ReLU" bottom: "h" top: "h" }
layer { name: "c2" type: "Convolution" bottom: "h" top: "coarse"
        convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "up" type: "Deconvolution" bottom: "coarse" top: "large" param { lr_mult: 0 } convolution_param {
        num_output: 3 bias_term: false kernel_size: 4 stride: 2 group: 3 weight_filler { type: "bilinear" } } }
layer { name: "crop" type: "Crop" bottom: "large" bottom: "image" top: "scores" crop_param { axis: 2 offset: 1 } }
layer { name: "split" type: "Split" bottom: "scores" top: "unary" top: "q0" }
layer { name: "inference1" type: "MultiStageMeanfield" bottom: "unary" bottom: "q0" bottom: "image" top: "pred"
        param { lr_mult: 10 } param { lr_mult: 10 } param { lr_mult: 1 }
        multi_stage_meanfield_param { num_iterations: 3 compatibility_mode: POTTS threshold: 2 theta_alpha: 20
                                      theta_beta: 15 theta_gamma: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pred" bottom: "label" top: "loss" }
"""
RECURRENT_SOLVER = """
train_net: "net.prototxt" base_lr: 0.02 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 100
random_seed: 3 snapshot_prefix: "snap" snapshot_after_train: false
"""


def test_a_net_of_the_shape_of_crf_as_rnn_learns_its_crf_and_resumes_bit_for_bit(tmp_path, monkeypatch):
    """Eight crops of photographs, 100 iterations; the labels are the brightness that place and colour can tell."""
    monkeypatch.chdir(tmp_path)
    photographs = [picture[:, :, ::-1][::8, ::8].astype(np.float32) for picture in
                   (pictures.astronaut(), pictures.cat(), pictures.coffee(), pictures.rocket())]
    crops = np.stack([photo[row:row + 20, row:row + 24] for photo in photographs for row in (4, 12)])
    brightness = crops.mean(axis=3)
    label = np.stack([np.digitize(b, np.quantile(b, [0.33, 0.67])) for b in brightness])
    with h5py.File("rows.h5", "w") as file:
        file["image"] = crops.transpose(0, 3, 1, 2) - 110
        file["label"] = label[:, None].astype(np.float32)
    for name, text in (("rows.txt", "rows.h5"), ("net.prototxt", RECURRENT), ("solver.prototxt", RECURRENT_SOLVER),
                       ("spatial.par", "1 1 1"), ("bilateral.par", "2 2 2")):
        (tmp_path / name).write_text(text)
    solver, losses = SGDSolver("solver.prototxt"), []
    start = [blob.data.copy() for blob in solver.net.params["inference1"]]
    for iteration in range(100):
        if iteration == 80:
            state = solver.snapshot()
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert np.mean(losses[-10:]) < np.mean(losses[45:55]) < np.mean(losses[:10])
    for before, blob in zip(start, solver.net.params["inference1"]):
        assert np.abs(blob.data - before).max() > 0.01
    resumed = SGDSolver("solver.prototxt")
    resumed.restore(state)
    resumed.step(20)
    for name, blobs in solver.net.params.items():
        for mine, theirs in zip(resumed.net.params[name], blobs):
            assert mine.data.tobytes() == theirs.data.tobytes()
