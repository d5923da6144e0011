"""Nets and solvers read and written whole."""

from __future__ import annotations

import copy
import pickle

import pytest

from atrouscaffe.errors import (
    ArgumentError,
    FileAccessError,
    FileMissingError,
    LayerError,
    PrototxtError,
    SolverError,
)
from atrouscaffe.formats.labelmap import Label, read_label_map
from atrouscaffe.formats.prototxt import parse_net, parse_solver, read_net, read_solver, write_net, write_solver
from atrouscaffe.graph.graph import Graph
from atrouscaffe.solver.spec import read_spec
from atrouscaffe.spec import TEST, TRAIN, NetSpec
from tests.conftest import ORACLE

CASES = sorted(ORACLE.glob("*/*/net.prototxt"))


def comparable(net: NetSpec):
    """What two nets must have in common to be the same: all but sources, and the name of the Input layer."""
    layers = [(layer.name if layer.type != "Input" else "input", layer.type, layer.bottoms, layer.tops, layer.params,
               layer.loss_weights, layer.include, layer.exclude, layer.phase, layer.propagate_down, layer.strict_dim)
              for layer in net.layers]
    fields = [{name: getattr(layer.fields, name) for name in layer.fields if name.endswith("_param")}
              for layer in net.layers]
    return net.name, net.dialect, net.force_backward, net.level, net.stages, net.phase, layers, fields


@pytest.mark.parametrize("group", range(4))
def test_written_net_reads_back_as_the_same(group):
    for path in CASES[group::4]:
        net = read_net(path)
        assert net.layers, path
        again = parse_net(write_net(net))
        assert comparable(again) == comparable(net), path


def test_v1_case_is_written_as_layers_with_hole():
    net = read_net(ORACLE / "cases/v1_conv_hole_2x3/net.prototxt")
    text = write_net(net)
    assert "layers {" in text
    assert "type: CONVOLUTION" in text
    assert "hole_h: 2" in text
    assert "dilation" not in text
    new = write_net(net, "bvlc")
    assert 'type: "Convolution"' in new
    assert "dilation: 2" in new
    assert "hole:" not in new
    assert "hole_h:" not in new
    assert 'type: "Input"' in new


def test_v2_is_written_with_input_fields_since_it_has_no_input_layer():
    text = write_net(read_net(ORACLE / "cases/v2_interp_zoom2/net.prototxt"))
    assert 'input: "' in text
    assert "input_shape {" in text
    assert '"Input"' not in text


def test_v1_cannot_say_batch_norm():
    net = parse_net('layer { name: "b" type: "BatchNorm" batch_norm_param { eps: 1 } }')
    with pytest.raises(PrototxtError, match=r"a v1 net cannot say .*batch_norm_param \(layer 'b'\)"):
        write_net(net, "v1")
    with pytest.raises(ArgumentError, match="unknown dialect"):
        write_net(net, "v7")


def test_net_has_what_the_file_says():
    net = parse_net('name: "n" force_backward: true debug_info: true state { phase: TRAIN level: 2 stage: "a" } '
                    'layer { name: "c" type: "Convolution" propagate_down: false phase: TEST '
                    "convolution_param { num_output: 3 pad: [1, 2] } }", path="a/n.prototxt")
    assert (net.name, net.force_backward, net.debug_info, net.level, net.stages, net.phase, net.path) == (
        "n", True, True, 2, ("a",), 0, "a/n.prototxt")
    layer = net.layers[0]
    assert (layer.propagate_down, layer.phase, layer.source.line) == ((False,), 1, 1)
    param = layer.fields.convolution_param
    assert (param.num_output, param.pad, param.group, param.bias_term, param.weight_filler.type) == (
        3, (1, 2), 1, True, "constant")
    assert layer.fields.interp_param.zoom_factor == 1
    assert not layer.fields.has("interp_param")


def test_fields_survive_pickling_and_copying():
    layer = parse_net('layer { type: "Convolution" convolution_param { num_output: 3 } }').layers[0]
    for again in (pickle.loads(pickle.dumps(layer.fields.convolution_param)),
                  copy.deepcopy(layer.fields.convolution_param)):
        assert again == layer.fields.convolution_param
        assert again.weight_filler.std == 1


def test_solver_defaults_and_values():
    solver = read_solver(ORACLE / "solver/v2_sgd_multistep/solver.prototxt")
    assert (solver.lr_policy, solver.stepvalue, solver.type, solver.iter_size, solver.clip_gradients) == (
        "multistep", (2, 5, 6), "SGD", 1, -1)
    assert solver.has("gamma")
    assert not solver.has("momentum2")


def test_solver_with_nets_inside_gives_specs_with_their_lines():
    text = ('base_lr: 0.1\ntrain_net_param {\n  layers { name: "a" type: INTERP }\n}\n'
            'test_net_param { name: "t" }\ntest_net_param { layer { name: "b" type: "ReLU" } }')
    solver = parse_solver(text, path="s.prototxt")
    assert isinstance(solver.train_net_param, NetSpec)
    assert solver.train_net_param.dialect == "v1"
    assert str(solver.train_net_param.layers[0].source) == "s.prototxt:3:3"
    assert [net.name for net in solver.test_net_param] == ["t", ""]
    assert solver.net_param == NetSpec()
    again = parse_solver(write_solver(solver))
    assert comparable(again.train_net_param) == comparable(solver.train_net_param)
    assert [comparable(n) for n in again.test_net_param] == [comparable(n) for n in solver.test_net_param]


def test_written_solvers_read_back():
    for path in ORACLE.glob("solver/*/solver.prototxt"):
        solver = read_solver(path)
        assert parse_solver(write_solver(solver)) == solver


def test_placeholders_in_nets_and_solvers():
    assert parse_net('name: "${A}"', variables={"A": "x"}).name == "x"
    assert parse_solver("max_iter: ${N}", variables={"N": 7}).max_iter == 7
    with pytest.raises(PrototxtError, match=r"<text>:1:8: placeholder \$\{A\} has no value"):
        parse_net('name: "${A}"')


def test_files_that_are_not_nets(tmp_path):
    with pytest.raises(FileMissingError, match=r"no such file: .*none.prototxt"):
        read_net(tmp_path / "none.prototxt")
    with pytest.raises(FileAccessError, match="cannot read"):
        read_net(tmp_path)
    path = tmp_path / "n.prototxt"
    for data, words in [(b"", "an empty file"), (b"<!DOCTYPE html><html>", "an HTML page"),
                        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git-LFS pointer"),
                        (b"\x0a\x03net\xa2\x06\x00", "binary data"), (b"PK\x03\x04" + bytes(9), "a zip archive"),
                        (b'name: "\xff\xfe"', "expected UTF-8 text, got byte 0xff at offset 7"),
                        (b"a" * (5 << 20), "more than 4 MiB")]:
        path.write_bytes(data)
        with pytest.raises(PrototxtError, match=words):
            read_net(path)


def test_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_bytes(b'\xef\xbb\xbfname: "n"')
    assert read_net(path).name == "n"


def test_every_model_reads(shared_data):
    paths = sorted(shared_data.glob("models/*/*.prototxt"))
    assert len(paths) > 12
    for path in paths:
        net = read_net(path)
        assert net.layers[0].type == "Input"
        assert comparable(parse_net(write_net(net))) == comparable(net), path


TRAINED = """layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 3 foo_param { a: 1 b { c: [1, -2.5, "x" "y"] } d <> } bar: -3 }
  data_param { source: "x" zap: inf } other_data_param { batch_sampler { } } }
layer { name: "in" type: "Input" top: "data" include { phase: TEST } input_param { shape { dim: 1 dim: 2 } } }
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }"""


def test_unknown_fields_for_training_are_refused_where_a_layer_uses_them():
    net = parse_net(TRAINED, path="n.prototxt")
    assert len(net.layers[0].fields.all_unknown()) == 4
    assert Graph(net, TEST).outputs == ["r"]
    with pytest.raises(LayerError, match=r"n.prototxt:1:1: layer 'd' \(Data\): .* n.prototxt:3:39: LayerParameter has"):
        Graph(net, TRAIN)
    with pytest.raises(PrototxtError, match=r"layer 'd' \(Data\): cannot be written, since .* no field 'other_data_p"):
        write_net(net)
    assert pickle.loads(pickle.dumps(net.layers[0].fields)).all_unknown() == net.layers[0].fields.all_unknown()


@pytest.mark.parametrize("text", [
    'layer { type: "ReLU" bottom: "x" foo_data_param { } }', 'layer { type: "Data" foo_param { } }',
    'layer { type: "ReLU" relu_param { foo: 1 } }', 'layer { type: "Data" data_param { foo } }',
    'layer { type: "Data" data_param { foo { 1 } } }', 'layer { type: "Data" data_param { foo: } }',
    'layer { type: "Data" data_param { foo: [1 2] } }',
    'layer { type: "Data" data_param {' + "foo {" * 200 + "}" * 202], ids=range(8))
def test_other_unknown_fields_and_broken_ones_are_refused_at_once(text):
    with pytest.raises(PrototxtError):
        parse_net(text)


def test_unknown_fields_of_a_solver_are_refused_by_training_alone():
    text = 'net: "n"\nlr_policy: "fixed"\nstepearly: 3\n'
    assert parse_solver(text).all_unknown() == ("<text>:3:1: SolverParameter has no field 'stepearly'; did you mean "
                                                "'stepvalue'?",)
    with pytest.raises(SolverError, match="<text>:3:1: SolverParameter has no field 'stepearly'"):
        read_spec(text)


def test_evaluation_of_detectors_is_refused_where_there_are_test_nets():
    text = 'net: "n"\nlr_policy: "fixed"\nbase_lr: 1 max_iter: 1 eval_type: "detection" ap_version: "11point"\n'
    assert read_spec(text).tests == ()
    with pytest.raises(SolverError, match="eval_type: expected 'classification'"):
        read_spec(text + "test_iter: 1 test_interval: 1")


@pytest.mark.parametrize("place", ["cls3x", "{{cls3x}}", "{{ cls3x }}", "@cls3x@", "$cls3x", "%(cls3x)d", "${cls3x}"])
def test_placeholders_of_other_templates_are_filled_where_their_name_is_given(place):
    text = f"""name: "a" # {place}
    layer {{ type: "InnerProduct" name: "{place}" inner_product_param {{ num_output: {place} }} }}"""
    layer = parse_net(text, variables={"cls3x": 63}).layers[0]
    assert layer.fields.inner_product_param.num_output == 63
    assert layer.name == ("cls3x" if place == "cls3x" else "63")  # a bare word is text inside quotes
    with pytest.raises(PrototxtError, match="2:[0-9]+: .*--set cls3x="):
        parse_net(text)
    with pytest.raises(PrototxtError, match="several lines"):
        parse_net(text, variables={"cls3x": "6\n3"})


def test_a_label_map_is_told_from_a_net(tmp_path):
    path = tmp_path / "labelmap.prototxt"
    path.write_text('# VOC\nitem { name: "none" label: 0 display_name: "background" } item { name: "cat" label: 8 }\n')
    assert read_label_map(path) == (Label(0, "none", "background"), Label(8, "cat", ""))
    with pytest.raises(PrototxtError, match="labelmap.prototxt: expected a net, got a label map"):
        read_net(path)
