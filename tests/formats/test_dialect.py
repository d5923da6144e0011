"""Nets of the forks' layers written by one numbering and read by what they look like."""

import numpy as np
import pytest

from atrouscaffe.formats.caffemodel import read_caffemodel, write_caffemodel
from atrouscaffe.formats.prototxt import parse_net

INPUT = 'input: "x" input_dim: 1 input_dim: 4 input_dim: 6 input_dim: 6 input: "r" input_dim: 3 input_dim: 5 ' \
        "input_dim: 1 input_dim: 1 "
CASES = {  # layer, dialect that wrote it, dialect that it is read by (bvlc where nothing disputes it)
    "psroi": ('layer { type: "PSROIPooling" bottom: "x" bottom: "r" top: "y" psroi_pooling_param { output_dim: 1 '
              "group_size: 2 spatial_scale: 0.5 } }", "rfcn", "rfcn"),
    "roi of R-FCN": ('layer { type: "ROIPooling" bottom: "x" bottom: "r" top: "y" roi_pooling_param { pooled_h: 2 '
                     "pooled_w: 3 spatial_scale: 0.5 } }", "rfcn", "rfcn"),
    "roi of Fast R-CNN": ('layer { type: "ROIPooling" bottom: "x" bottom: "r" top: "y" roi_pooling_param { '
                          "pooled_h: 2 pooled_w: 3 } }", "bvlc", "bvlc"),
    "mish": ('layer { type: "Mish" bottom: "x" top: "y" mish_param { engine: CAFFE } }', "ssd", "ssd"),
    "prior": ('layer { type: "PriorBox" bottom: "x" bottom: "x" top: "y" prior_box_param { min_size: 4 flip: false '
              "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }", "ssd", "ssd"),
    "normalize": ('layer { type: "Normalize" bottom: "x" top: "y" norm_param { across_spatial: false } }', "ssd",
                  "ssd"),
    "shuffle": ('layer { type: "ShuffleChannel" bottom: "x" top: "y" shuffle_channel_param { group: 2 } }', "bvlc",
                "bvlc"),
    "reorg": ('layer { type: "Reorg" bottom: "x" top: "y" reorg_param { stride: 3 reverse: true } }', "bvlc", "bvlc"),
    "batch norm": ('layer { type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { scale_filler { value: 2 } '
                   "scale_bias: true engine: CUDNN } }", "bvlc", "bvlc"),
    "lstm": ('layer { type: "LSTM" bottom: "x" bottom: "r" top: "y" recurrent_param { num_output: 2 '
             "expose_hidden: true } }", "bvlc", "bvlc"),
}


@pytest.mark.parametrize("name", CASES)
def test_layer_of_a_fork_is_read_by_its_own_numbers(name, tmp_path):
    text, written, found = CASES[name]
    net = parse_net(INPUT + text.replace("layer {", 'layer { name: "l"'))
    write_caffemodel(tmp_path / "net.caffemodel", net, {"l": [np.ones(3, np.float32)]}, dialect=written)
    read = read_caffemodel(tmp_path / "net.caffemodel")
    assert read.dialect == found, read
    assert not read.unknown_fields
    assert read.net.layers[-1].fields == net.layers[-1].fields
