"""A fork's caffe.proto: nets and weights read by its names and numbers, against protobuf; files that are refused."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

from atrouscaffe import TEST, Net
from atrouscaffe.cli.main import main
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, FileMissingError, LayerError, PrototxtError
from atrouscaffe.formats.caffemodel import read_caffemodel, write_caffemodel
from atrouscaffe.formats.dialect import WIRE_DIALECTS
from atrouscaffe.formats.protofile import read_proto
from atrouscaffe.formats.prototxt import parse_net, read_net, write_net
from atrouscaffe.formats.schema import Schema, schema
from tests.conftest import ORACLE

pytest.importorskip("grpc_tools")

FORK = """syntax = "proto2";
package caffe;
message NetParameter { optional string name = 1; repeated LayerParameter layer = 77; }
message BlobShape { repeated int64 dim = 3 [packed = true]; }
message BlobProto { optional BlobShape shape = 2; repeated float data = 9 [packed = true]; }
message LayerParameter {
  optional string type = 1; optional string name = 2; repeated string top = 3; repeated string bottom = 4;
  repeated BlobProto blobs = 5; optional InputParameter input_param = 6;
  optional ConvolutionParameter convolution_param = 137; optional GlowParameter glow_param = 144;
}
message InputParameter { repeated BlobShape shape = 1; }
message ConvolutionParameter {
  enum Padding { NONE = 0; SAME = 1; }
  optional uint32 num_output = 4; optional uint32 kernel_size = 1; optional bool bias_term = 2 [default = true];
  optional Padding padding = 20;
}
message GlowParameter {
  message Ring { repeated float radius = 1; }
  optional float strength = 1 [default = 0.5]; repeated Ring ring = 2; optional fixed32 seed = 3;
}
"""


@pytest.fixture
def fork(tmp_path):
    path = tmp_path / "caffe.proto"
    path.write_text(FORK)
    return path


def message_of(path, name):
    """Return a message class that protobuf itself makes of a file."""
    target = path.with_suffix(".desc")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={path.parent}",
                    f"--descriptor_set_out={target}", str(path)], check=True, timeout=60)
    files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(files.file[0])
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))


def fork_net(path, rng):
    """Return a net of the fork with weights, its bytes written by protobuf, and the weights."""
    weights = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
    net = message_of(path, "NetParameter")(name="n")
    net.layer.add(type="Input", name="in", top=["data"]).input_param.shape.add(dim=[1, 3, 7, 9])
    conv = net.layer.add(type="Convolution", name="c", bottom=["data"], top=["c"])
    conv.convolution_param.num_output, conv.convolution_param.kernel_size = 2, 5
    conv.convolution_param.bias_term = False
    blob = conv.blobs.add(data=weights.ravel().tolist())
    blob.shape.dim.extend(weights.shape)
    return net, weights


def test_a_net_with_numbers_of_its_own_is_read_by_them(fork, rng, tmp_path):
    message, weights = fork_net(fork, rng)
    path = tmp_path / "w.caffemodel"
    path.write_bytes(message.SerializeToString())
    file = read_caffemodel(path, proto=fork)
    assert file.evidence == f"numbers of {fork}" and not file.unknown_fields
    np.testing.assert_array_equal(file.arrays()["c"][0], weights)
    net = Net(file.net, TEST, weights=path, proto=fork)
    assert net.blobs["c"].shape == (1, 2, 3, 5)
    np.testing.assert_array_equal(net.params["c"][0].data, weights)
    with pytest.raises(AtrousCaffeError):
        read_caffemodel(path)


def test_what_only_the_fork_has_is_named_with_its_layer_and_refused_where_it_is_used(fork, rng, tmp_path):
    message, _ = fork_net(fork, rng)
    glow = message.layer.add(type="Glow", name="g", bottom=["c"], top=["g"]).glow_param
    glow.strength = 2
    glow.ring.add(radius=[1, 0.5])
    path = tmp_path / "w.caffemodel"
    path.write_bytes(message.SerializeToString())
    binary = read_caffemodel(path, proto=fork).net
    text = parse_net("""layer { type: "Input" name: "in" top: "c" input_param { shape { dim: [1, 3, 7, 9] } } }
        layer { type: "Glow" name: "g" bottom: "c" top: "g" glow_param { strength: 2 ring { radius: [1, 0.5] } } }""",
                     path="n.prototxt", proto=fork)
    for net in (binary, text):
        with pytest.raises(LayerError, match=r"unknown layer type 'Glow'.* what the file says of this one: .*"
                                             r"glow_param \{ strength: 2.0 ring \{ radius: 1.0 radius: 0.5 \} \}"):
            Net(net, TEST)
        with pytest.raises(PrototxtError, match="layer 'g' .Glow.: cannot be written"):
            write_net(net)
    message.layer[1].convolution_param.padding = 1
    path.write_bytes(message.SerializeToString())
    with pytest.raises(LayerError, match=r"layer 'c' \(Convolution\): .* ConvolutionParameter has no such field: "
                                         r"padding: 'SAME'"):
        Net(read_caffemodel(path, proto=fork).net, TEST)
    with pytest.raises(PrototxtError, match="has no field 'glow_parm'; did you mean 'glow_param'"):
        parse_net('layer { glow_parm { } }', proto=fork)


def as_proto(words: Schema) -> str:
    """Write a schema as a .proto file."""
    def enum(name, numbers):
        return f"enum {name} {{ option allow_alias = true; {' '.join(f'{k} = {v};' for k, v in numbers.items())} }}\n"

    text = 'syntax = "proto2";\npackage caffe;\n'
    text += "".join(enum(name, e.numbers) for name, e in words.enums.items() if "." not in name).replace(
        "option allow_alias = true; ", "")
    for message in words.messages.values():
        inner = "".join(enum(name.partition(".")[2], e.numbers) for name, e in words.enums.items()
                        if name.startswith(f"{message.name}.")).replace("option allow_alias = true; ", "")
        fields = "".join(
            f"{'repeated' if f.repeated else 'optional'} {f.target or f.kind} {f.name} = {f.number}"
            f"{' [packed = true]' if f.packed else ''};\n" for f in message.by_name.values())
        text += f"message {message.name} {{\n{inner}{fields}}}\n"
    return text


@pytest.mark.parametrize("dialect", WIRE_DIALECTS)
def test_the_numbers_of_a_known_fork_give_the_same_arrays_as_its_caffe_proto(dialect, rng, tmp_path):
    proto = tmp_path / "caffe.proto"
    proto.write_text(as_proto(schema(dialect)))
    text = """input: "data" input_dim: [1, 3, 7, 9]
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 2 kernel_size: 3 pad: 2 hole: 2 } }
        layer { name: "e" type: "Eltwise" bottom: "c" bottom: "c" top: "e" eltwise_param { operation: MAX } }"""
    if dialect == "crfrnn":
        text = text.replace(" hole: 2", "")
    arrays = {"c": [rng.standard_normal((2, 3, 3, 3)).astype(np.float32), rng.standard_normal(2).astype(np.float32)]}
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, parse_net(text), arrays, dialect=dialect)
    ours, theirs = read_caffemodel(path, dialect=dialect), read_caffemodel(path, proto=proto)
    assert not theirs.unknown_fields and len(ours.arrays()) == 1
    for name, blobs in ours.arrays().items():
        for mine, other in zip(blobs, theirs.arrays()[name], strict=True):
            np.testing.assert_array_equal(mine, other)
    assert [(s.name, s.type, s.fields) for s in theirs.net.layers] == [(s.name, s.type, s.fields)
                                                                       for s in ours.net.layers]


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_weights_that_the_originals_wrote_are_the_same_by_table_and_by_proto(dialect, tmp_path):
    proto = tmp_path / "caffe.proto"
    proto.write_text(as_proto(schema(dialect)))
    path = ORACLE / f"nets/{dialect}_deeplab_largefov/weights.caffemodel"
    ours, theirs = read_caffemodel(path).arrays(), read_caffemodel(path, proto=proto).arrays()
    assert list(ours) == list(theirs)
    for name, blobs in ours.items():
        for mine, other in zip(blobs, theirs[name], strict=True):
            np.testing.assert_array_equal(mine, other)


MINIMAL = """syntax = "proto2"; package caffe; message BlobProto { repeated float data = 5; }
message NetParameter { optional string name = 1; repeated BlobProto layer = 2; } """
HOSTILE = {
    "deep": (MINIMAL + "message A {" * 5000 + "}" * 5000, "recursion limit"),
    "chain": (MINIMAL + "".join(f"message M{i} {{ optional M{i + 1} x = 1; }}" for i in range(500))
              + "message M500 {}", "nest deeper than 30"),
    "fields": ('syntax = "proto2"; message LayerParameter {\n'
               + "".join(f"optional int32 f{i} = {i + 1};\n" for i in range(100_000)) + "}", "more than 512 KiB"),
    "short fields": (MINIMAL + "".join(
        f"message L{j} {{" + "".join(f"optional bool f{i}={i};" for i in range(1, 3000)) + "}" for j in range(7)),
        "fields; a caffe.proto has some 1,000"),
    "import": (MINIMAL + 'import "/etc/passwd";', "etc/passwd"),
    "known import": (MINIMAL + 'import "google/protobuf/any.proto";', "imports 'google/protobuf/any.proto'"),
    "recursion": (MINIMAL + "message A { optional A a = 1; }", "message A holds itself"),
    "wide recursion": (MINIMAL + "message A { optional B b = 1; } message B { optional A a = 1; }", "holds itself"),
    "syntax": ("message A {\n  optional int32 = 1;\n}", "caffe.proto:2:18: protobuf's compiler refuses it: Expected"),
    "another schema": ('syntax = "proto2"; message A { }', "it has no NetParameter.name"),
    "binary": ("\x00\x01\x02\xff", "refuses it"),
    "empty": ("", "it has no NetParameter"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_within_a_second(case, tmp_path):
    text, words = HOSTILE[case]
    path = tmp_path / "caffe.proto"
    path.write_text(text, encoding="latin-1")
    began = time.process_time()
    with pytest.raises(PrototxtError, match=words) as caught:
        read_proto(path)
    assert time.process_time() - began < 1
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_where_a_proto_does_not_belong(fork, tmp_path):
    with pytest.raises(FileMissingError, match="none.proto"):
        read_proto(tmp_path / "none.proto")
    with pytest.raises(ArgumentError, match="HDF5"):
        Net('input: "x" input_shape { dim: 1 }', TEST).copy_from(tmp_path / "w.h5", proto=fork)


def test_inspect_and_convert_take_a_proto(fork, rng, tmp_path, capsys):
    message, weights = fork_net(fork, rng)
    path, out = tmp_path / "w.caffemodel", tmp_path / "out.caffemodel"
    path.write_bytes(message.SerializeToString())
    assert main(["inspect", str(path), "--proto", str(fork)]) == 0
    assert "2x3x5x5" in capsys.readouterr().out
    assert main(["convert", str(path), str(out), "--proto", str(fork)]) == 0
    np.testing.assert_array_equal(read_caffemodel(out).arrays()["c"][0], weights)
    message.layer.add(type="Glow", name="g", bottom=["c"], top=["g"]).glow_param.strength = 2
    path.write_bytes(message.SerializeToString())
    assert main(["inspect", str(path), "--proto", str(fork)]) == 0
    assert "layer 'g': type 'Glow'; LayerParameter has no such field: glow_param { strength: 2.0 }" \
        in capsys.readouterr().out
    text = tmp_path / "n.prototxt"
    text.write_text('layer { type: "Glow" name: "g" top: "g" glow_param { } }')
    assert main(["inspect", str(text), "--proto", str(fork)]) == 2
    assert "glow_param { }" in capsys.readouterr().err
    assert read_net(text, proto=fork).layers[0].type == "Glow"
    assert main(["inspect", str(fork), "--as", "solver", "--proto", str(fork)]) == 2


def test_segment_takes_a_proto(fork, rng, tmp_path, capsys):
    message, _ = fork_net(fork, rng)
    weights, net, photo = tmp_path / "w.caffemodel", tmp_path / "n.prototxt", tmp_path / "photo.png"
    weights.write_bytes(message.SerializeToString())
    net.write_text(write_net(read_caffemodel(weights, proto=fork).net))
    Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).save(photo)
    words = ["segment", str(photo), "--model", str(net), "--weights", str(weights), "--mean", "0", "--out",
             str(tmp_path / "out")]
    assert main(words) == 2 and "no layers" in capsys.readouterr().err
    assert main([*words, "--proto", str(fork)]) == 0


def test_a_fork_whose_layers_are_all_of_the_old_form(tmp_path, rng):
    proto = tmp_path / "caffe.proto"
    proto.write_text("""syntax = "proto2"; package caffe;
        message NetParameter { optional string name = 1; repeated LayerParameter layers = 2;
          repeated string input = 3; }
        message BlobProto { optional int32 num = 1; optional int32 channels = 2; optional int32 height = 3;
          optional int32 width = 4; repeated float data = 5 [packed = true]; }
        message LayerParameter {
          enum LayerType { NONE = 0; CONVOLUTION = 4; RELU = 18; GLOW = 40; }
          repeated string bottom = 2; repeated string top = 3; optional string name = 4; optional LayerType type = 5;
          repeated BlobProto blobs = 6; repeated float blobs_lr = 7;
          optional ConvolutionParameter convolution_param = 10;
        }
        message ConvolutionParameter { optional uint32 num_output = 1; optional uint32 kernel_size = 4;
          optional uint32 hole = 17; }""")
    weights = rng.standard_normal((2, 3, 1, 1)).astype(np.float32)
    net = message_of(proto, "NetParameter")(name="n", input=["data"])
    conv = net.layers.add(name="c", type=4, bottom=["data"], top=["c"], blobs_lr=[0.5])
    conv.convolution_param.num_output, conv.convolution_param.kernel_size, conv.convolution_param.hole = 2, 1, 3
    conv.blobs.add(num=2, channels=3, height=1, width=1, data=weights.ravel().tolist())
    net.layers.add(name="g", type=40, bottom=["c"], top=["g"])
    path = tmp_path / "w.caffemodel"
    path.write_bytes(net.SerializeToString())
    file = read_caffemodel(path, proto=proto)
    np.testing.assert_array_equal(file.arrays()["c"][0], weights)
    _, layer, glow = file.net.layers
    assert (layer.type, layer.fields.convolution_param.hole, layer.params[0].lr_mult) == ("Convolution", (3,), 0.5)
    assert file.net.dialect == "v1" and glow.type == "GLOW"
