"""A small model in a folder of its own, in the places where the paper's models have their files."""

from __future__ import annotations

from pathlib import Path

BODY = """
layers { name: "a" type: CONVOLUTION bottom: "data" top: "a" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 } }
layers { name: "ra" type: RELU bottom: "a" top: "a" }
layers { name: "pa" type: POOLING bottom: "a" top: "pa" pooling_param { pool: MAX kernel_size: 3 stride: 4 pad: 1 } }
layers { name: "pb" type: POOLING bottom: "pa" top: "pb" pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }
layers { name: "b" type: CONVOLUTION bottom: "pb" top: "b" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         convolution_param { num_output: 21 kernel_size: 3 pad: 2 hole: 2 } }
"""
DEPLOY = """name: "small" input: "data" input_dim: 1 input_dim: 3 input_dim: 65 input_dim: 65
""" + BODY + 'layers { name: "up" type: INTERP bottom: "b" top: "up" interp_param { zoom_factor: 8 } }\n'
TRAIN = """name: "small"
layers { name: "data" type: IMAGE_SEG_DATA top: "data" top: "label" image_data_param { source: "list" batch_size: 2 }
         transform_param { crop_size: 65 } }
""" + BODY + """
layers { name: "shrink" type: INTERP bottom: "label" top: "shrink" interp_param { shrink_factor: 8 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "b" bottom: "shrink" softmax_param { } }
"""
SOLVER = """train_net: "train.prototxt" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 9
snapshot_prefix: "small"
"""


def write_model(folder: Path) -> Path:
    """Write deploy net, train net and solver; return the deploy net's path."""
    for name, text in (("deploy", DEPLOY), ("train", TRAIN), ("solver", SOLVER)):
        (folder / f"{name}.prototxt").write_text(text)
    return folder / "deploy.prototxt"
