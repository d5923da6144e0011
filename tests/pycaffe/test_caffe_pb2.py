"""Caffe's messages: text, binary, enums, numbers."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

import atrouscaffe.pycaffe as caffe
from atrouscaffe.pycaffe.proto import caffe_pb2
from tests.pycaffe.nets import DEPLOY

OLD = """
name: "old" layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1
  convolution_param { num_output: 2 kernel_size: 3 } }
"""


def test_text_there_and_back():
    net = text_format.Parse(DEPLOY, caffe_pb2.NetParameter())
    assert [layer.name for layer in net.layer] == ["data", "conv", "relu", "ip", "prob"]
    assert net.layer[1].convolution_param.kernel_size[0] == 3 and net.layer[1].convolution_param.stride == []
    again = caffe_pb2.NetParameter()
    text_format.Merge(str(net), again)
    assert again == net
    old = text_format.Parse(OLD, caffe_pb2.NetParameter())
    assert old.layers[0].type == caffe_pb2.V1LayerParameter.CONVOLUTION
    assert caffe_pb2.V1LayerParameter.LayerType.Name(old.layers[0].type) == "CONVOLUTION"


def test_a_caffemodel_is_read_edited_and_written(tmp_path):
    (tmp_path / "net.prototxt").write_text(DEPLOY)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.save(str(tmp_path / "a.caffemodel"))
    message = caffe_pb2.NetParameter()
    message.ParseFromString((tmp_path / "a.caffemodel").read_bytes())
    blob = next(layer for layer in message.layer if layer.name == "ip").blobs[0]
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), net.params["ip"][0].data)
    blob.data[:] = [2.0] * len(blob.data)
    (tmp_path / "b.caffemodel").write_bytes(message.SerializeToString())
    net.copy_from(str(tmp_path / "b.caffemodel"))
    assert (net.params["ip"][0].data == 2).all()


def test_numbers_on_the_wire_are_bvlcs():
    layer = caffe_pb2.LayerParameter()
    layer.input_param.shape.add().dim.append(3)
    assert layer.SerializeToString() == bytes([0xFA, 0x08, 5, 0x0A, 3, 0x0A, 1, 3])  # field 143
    convolution = caffe_pb2.ConvolutionParameter(dilation=[2])
    assert convolution.SerializeToString() == bytes([0x90, 0x01, 2])  # field 18
    layer.interp_param.zoom_factor = 8
    assert "interp_param" in str(layer)


def test_enums_and_names():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1) == (caffe.TRAIN, caffe.TEST)
    assert caffe_pb2.Phase.Value("TEST") == 1 and caffe_pb2.Phase.Name(0) == "TRAIN"
    assert caffe_pb2.PoolingParameter.AVE == 1
    assert {v.number: k for k, v in caffe_pb2.PoolingParameter.PoolMethod.DESCRIPTOR.values_by_name.items()}[0] == "MAX"
    solver = caffe_pb2.SolverParameter(base_lr=0.5, type="Adam", solver_mode=caffe_pb2.SolverParameter.CPU)
    solver.test_iter.append(3)
    assert "base_lr: 0.5" in str(solver) and solver.test_iter == [3]
    for name in ("NetParameter", "SolverParameter", "BlobProto", "BlobProtoVector", "Datum", "LayerParameter"):
        assert getattr(caffe_pb2, name).DESCRIPTOR.name == name and name in dir(caffe_pb2)
    assert caffe_pb2._LAYERPARAMETER.name == "LayerParameter"
    with pytest.raises(AttributeError):
        assert caffe_pb2.Nothing
    with pytest.raises(AttributeError):
        caffe_pb2.LayerParameter().nothing = 1


def test_a_solver_written_as_text_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tests.pycaffe.nets import simple

    (tmp_path / "net.prototxt").write_text(simple())
    solver = caffe_pb2.SolverParameter(train_net="net.prototxt", base_lr=0.01, lr_policy="fixed", max_iter=1)
    (tmp_path / "solver.prototxt").write_text(str(solver))
    made = caffe.get_solver("solver.prototxt")
    made.step(1)
    assert made.iter == 1
