"""Nets that several tests run."""

from __future__ import annotations

SIMPLE = """
name: "simple" force_backward: true
layer {{ name: "source" type: "DummyData" top: "image" top: "label"
  dummy_data_param {{ num: 3 channels: 2 height: 5 width: 7 num: 3 channels: 1 height: 1 width: 1
    data_filler {{ type: "gaussian" std: 1 }} data_filler {{ type: "constant" }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "image" top: "maps"
  param {{ decay_mult: 1 }} param {{ decay_mult: 0 }}
  convolution_param {{ num_output: 4 kernel_size: 3 pad: 2 weight_filler {{ type: "gaussian" std: 1 }}
    bias_filler {{ type: "constant" value: 2 }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "maps" top: "scores"
  inner_product_param {{ num_output: {classes} weight_filler {{ type: "gaussian" std: 0.5 }}
    bias_filler {{ type: "constant" value: -3 }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label" top: "loss" }}
"""


def simple(classes: int = 6) -> str:
    """A net with random pictures, a convolution, an inner product and a loss."""
    return SIMPLE.format(classes=classes)


DEPLOY = """
name: "deploy"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
