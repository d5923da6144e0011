"""Which nets are SegNet's: what decides how its Accuracy writes the classes."""

import pytest

from atrouscaffe.formats.prototxt import parse_net
from atrouscaffe.formats.segnet import is_segnet

SEGNET = {
    "bn": 'layer { type: "BN" bottom: "x" top: "y" bn_param { bn_mode: INFERENCE } }',
    "upsample": 'layer { type: "Upsample" bottom: "x" bottom: "m" top: "y" }',
    "pairs": 'layer { type: "DenseImageData" top: "x" dense_image_data_param { source: "a" } }',
    "dropout": 'layer { type: "Dropout" bottom: "x" top: "y" dropout_param { sample_weights_test: false } }'}
YOUNGER = {
    "dilation": 'layer { type: "Convolution" bottom: "x" top: "y" convolution_param { dilation: 2 } }',
    "divided labels": 'layer { type: "DenseImageData" top: "x" dense_image_data_param { label_divide_factor: 1 } }',
    "scale": 'layer { type: "Scale" bottom: "x" top: "y" }',
    "normalization": 'layer { type: "SoftmaxWithLoss" bottom: "x" bottom: "t" loss_param { normalization: NONE } }'}


@pytest.mark.parametrize("name", SEGNET)
def test_net_with_a_layer_of_segnet_is_segnets(name):
    assert is_segnet(parse_net('input: "x" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5 ' + SEGNET[name]))


@pytest.mark.parametrize("name", YOUNGER)
def test_net_with_what_segnets_caffe_lacks_is_not(name):
    assert not is_segnet(parse_net(SEGNET["bn"] + YOUNGER[name]))


def test_net_of_neither_is_not_segnets():
    assert not is_segnet(parse_net('layer { type: "BN" bottom: "x" top: "y" bn_param { frozen: true } }'))
