"""caffe.NetSpec, layers and params: text of nets, names, in-place layers, errors."""

from __future__ import annotations

import copy

import pytest

import atrouscaffe.pycaffe as caffe
from atrouscaffe.pycaffe import layers as L
from atrouscaffe.pycaffe import params as P

LENET = """
layer { name: "data" type: "DummyData" top: "data" top: "label" transform_param { scale: 0.25 }
  dummy_data_param { shape { dim: 2 dim: 1 dim: 28 dim: 28 } shape { dim: 2 dim: 1 dim: 1 dim: 1 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 50 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" loss_weight: 0.5
  include { phase: TRAIN } }
"""


def tops(n):
    n.data, n.label = L.DummyData(shape=[{"dim": [2, 1, 28, 28]}, {"dim": [2, 1, 1, 1]}],
                                  transform_param={"scale": 0.25}, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler={"type": "xavier"},
                            param=[{"lr_mult": 1}, {"lr_mult": 2}])
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.ip1 = L.InnerProduct(n.pool1, num_output=50, weight_filler={"type": "xavier"})
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu1, n.label, loss_weight=0.5, include={"phase": caffe.TRAIN})
    return n


def load(message, tmp_path, phase=caffe.TRAIN):
    path = tmp_path / "net.prototxt"
    path.write_text(str(message))
    return caffe.Net(str(path), phase)


def parse(text):
    from google.protobuf import text_format

    from atrouscaffe.pycaffe.proto import caffe_pb2

    return text_format.Parse(text, caffe_pb2.NetParameter())


def test_a_spec_is_the_net_that_one_would_write_by_hand(tmp_path):
    message = tops(caffe.NetSpec()).to_proto()
    assert message == parse(LENET) and str(message) == str(parse(LENET))
    net = load(message, tmp_path)
    assert len(net.layers) == 6 and set(net.forward()) == {"loss"}


class Bag:
    """Takes any attribute; no names reach the net from it."""


def test_names_that_are_not_given_are_made(tmp_path):
    message = tops(Bag()).loss.to_proto()
    assert [layer.name for layer in message.layer] == ["DummyData1", "Convolution1", "Pooling1", "InnerProduct1",
                                                       "ReLU1", "SoftmaxWithLoss1"]
    assert list(message.layer[0].top) == ["DummyData1", "DummyData2"]
    assert message.layer[4].bottom == message.layer[4].top == ["InnerProduct1"]
    assert len(load(message, tmp_path).layers) == 6


def test_layers_without_tops(tmp_path):
    n = caffe.NetSpec()
    n.one, n.two = L.DummyData(shape={"dim": 3}, ntop=2)
    n.quiet = L.Silence(n.one, ntop=0)
    n["also"] = L.Silence(n["two"], ntop=0)
    message = n.to_proto()
    assert [layer.name for layer in message.layer] == ["one", "quiet", "also"]
    assert load(message, tmp_path, caffe.TEST).forward() == {}
    assert [layer.name for layer in caffe.to_proto(L.Silence(*L.DummyData(shape={"dim": 3}, ntop=2), ntop=0)).layer] \
        == ["DummyData1", "Silence1"]


def test_inputs_that_are_no_tops_are_type_errors():
    data = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(data, ntop=0)
    with pytest.raises(TypeError, match="Eltwise input 1 is not a Top"):
        L.Eltwise(data[0], "data")


def test_wrong_options_are_told():
    data = L.Input(shape={"dim": [1, 2, 3, 4]})
    with pytest.raises(AttributeError, match="kernel_siz"):
        L.Convolution(data, kernel_siz=3).to_proto()
    with pytest.raises(AttributeError, match="nearest is 'kernel_size'"):
        L.Convolution(data, convolution_param={"kernelsize": 3}).to_proto()
    with pytest.raises(TypeError):
        L.Convolution(data, num_output="many").to_proto()
    with pytest.raises(AttributeError):
        assert P.Pooling.MEDIAN
    with pytest.raises(KeyError, match="no top 'nothing'"):
        assert caffe.NetSpec().nothing


def test_options_go_to_the_layer_or_its_message():
    data = L.Input(shape=[{"dim": [1, 2, 3, 4]}])
    layer = L.Interp(data, zoom_factor=8, name="up", propagate_down=False).to_proto().layer[1]
    assert layer.interp_param.zoom_factor == 8 and layer.name == "up" and list(layer.propagate_down) == [False]
    layer = L.Python(data, module="m", layer="C", param_str="x").to_proto().layer[1]
    assert (layer.python_param.module, layer.python_param.layer, layer.python_param.param_str) == ("m", "C", "x")
    layer = L.Convolution(data, kernel_size=[3, 5], pad=1, num_output=2, bias_term=False).to_proto().layer[1]
    assert list(layer.convolution_param.kernel_size) == [3, 5] and list(layer.convolution_param.pad) == [1]
    assert not layer.convolution_param.bias_term


def test_deep_nets_need_no_recursion():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1]})
    top = n.data
    for _ in range(3000):
        top = L.ReLU(top, in_place=True)
    n.end = top
    assert len(n.to_proto().layer) == 3001


def test_a_spec_copies():
    n = tops(caffe.NetSpec())
    assert copy.copy(n).to_proto() == n.to_proto()
    del n.loss
    assert [layer.name for layer in n.to_proto().layer][-1] == "relu1"
