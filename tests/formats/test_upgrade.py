"""Old nets and solvers against what the original's own upgrade tool makes of them."""

from __future__ import annotations

import pytest

from atrouscaffe.errors import PrototxtError
from atrouscaffe.formats.prototxt import parse_net, parse_solver, read_net
from atrouscaffe.spec import Phase


def same_layers(mine, theirs) -> None:
    assert [layer.name for layer in mine.layers] == [layer.name for layer in theirs.layers]
    for a, b in zip(mine.layers, theirs.layers):
        assert (a.type, a.bottoms, a.tops, a.params, a.fields) == (b.type, b.bottoms, b.tops, b.params, b.fields)


@pytest.mark.parametrize("age", ["v0", "v1"])
def test_upgrade_when_compared_with_the_originals_tool_then_equal(oracle, age):
    mine = read_net(oracle / f"files/net_{age}.prototxt")
    theirs = read_net(oracle / f"files/net_{age}_upgraded.prototxt")
    assert len(mine.layers) > 5
    same_layers(mine, theirs)
    assert (mine.name, mine.force_backward, mine.layers[0].type) == (theirs.name, theirs.force_backward, "Input")


def test_dialect_follows_the_text():
    for text, dialect in [
            ("layers { type: RELU }", "v1"), ('layer { type: "ReLU" }', "bvlc"), ("", "bvlc"),
            ("layers { type: DECONVOLUTION }", "bvlc"), ("layers { type: SOFTMAX_LOSS loss_param { } }", "bvlc"),
            ("layers { type: INTERP } layers { type: DECONVOLUTION }", "v1"),
            ('layer { type: "Interp" }', "v2"), ('layer { type: "SoftmaxWithLoss" softmaxloss_param { } }', "v1"),
            ('layer { type: "Padding" } layer { type: "Interp" }', "v1")]:
        assert parse_net(text).dialect == dialect, text
    assert parse_net('layer { type: "ReLU" }', dialect="v1").dialect == "v1"
    assert parse_net('layer { type: "BN" }', dialect="enet").dialect == "bvlc"


def test_both_forms_in_one_net_are_refused():
    with pytest.raises(PrototxtError, match=r"n.prototxt:2:1: layer 'b': the net has both"):
        parse_net('layers { name: "a" }\nlayer { name: "b" }', path="n.prototxt")


def test_inputs_become_one_input_layer():
    for text in ('input: "a" input: "b" input_dim: [1, 2, 3, 5, 7, 1, 1, 2]',
                 'input: "a" input: "b" input_shape { dim: [1,2,3,5] } input_shape { dim: [7,1,1,2] }'):
        net = parse_net(text + ' layer { name: "r" type: "ReLU" bottom: "a" top: "a" }')
        layer = net.layers[0]
        assert (layer.name, layer.type, layer.tops) == ("input", "Input", ("a", "b"))
        assert [shape.dim for shape in layer.fields.input_param.shape] == [(1, 2, 3, 5), (7, 1, 1, 2)]
        assert net.layers[1].name == "r"
    assert parse_net('input: "a"').layers[0].fields.input_param.shape == ()


def test_an_input_without_a_shape_is_dropped_beside_an_input_layer_of_its_name():
    own = 'layer { name: "in" type: "Input" top: "a" input_param { shape { dim: 1 } } }'
    assert [spec.name for spec in parse_net(f'input: "a" {own}').layers] == ["in"]
    assert [spec.name for spec in parse_net(f'input: "b" {own}').layers] == ["input", "in"]


def test_the_input_layer_takes_no_other_layers_name():
    net = parse_net('input: "a" input_shape { dim: 2 } layer { name: "input" type: "ReLU" bottom: "a" top: "y" }')
    assert [layer.name for layer in net.layers] == ["input_", "input"]


@pytest.mark.parametrize("text", [
    'input: "a" input_dim: 1 input_dim: 2', 'input: "a" input_dim: [1, 2, 3, 5, 7]', "input_dim: [1, 2, 3, 5]",
    'input: "a" input: "b" input_shape { dim: 1 }', 'input: "a" input_dim: [1, 2, 3, -5]',
    'input: "a" input_dim: [1, 2, 3, 5] input_shape { dim: 1 }'])
def test_inputs_without_fitting_dimensions_are_refused(text):
    with pytest.raises(PrototxtError, match="input"):
        parse_net(text, path="n.prototxt")


@pytest.mark.parametrize(("text", "hole"), [
    ("hole: 12", (12,)), ("dilation: 12", (12,)), ("hole_h: 2 hole_w: 3", (2, 3)), ("hole_h: 2", (2, 1)),
    ("dilation: 2 dilation: 3", (2, 3)), ("hole: 4 dilation: 4", (4,)), ("hole: 4 dilation: [4, 4]", (4,)), ("", ())])
def test_hole_is_the_one_word(text, hole):
    layer = parse_net(f'layer {{ type: "Convolution" convolution_param {{ {text} }} }}').layers[0]
    param = layer.fields.convolution_param
    assert param.hole == hole
    assert not (param.has("dilation") or param.has("hole_h") or param.has("hole_w"))


def test_contradictory_holes_are_refused():
    with pytest.raises(PrototxtError, match=r"contradictory dilations: hole \[2\], dilation \[3\]"):
        parse_net('layer { type: "Convolution" convolution_param { hole: 2 dilation: 3 } }')


@pytest.mark.parametrize(("kind", "param"), [
    ("DATA", "data_param"), ("IMAGE_DATA", "image_data_param"), ("WINDOW_DATA", "window_data_param"),
    ("IMAGE_SEG_DATA", "image_data_param")])
def test_transform_fields_move(kind, param):
    net = parse_net(f'layers {{ type: {kind} {param} {{ source: "l" scale: 2 mean_file: "m" crop_size: 7 mirror: true '
                    "batch_size: 3 } }")
    fields = net.layers[0].fields
    transform = fields.transform_param
    assert (transform.scale, transform.mean_file, transform.crop_size, transform.mirror) == (2, "m", 7, True)
    assert not getattr(fields, param).has("scale")
    assert getattr(fields, param).batch_size == 3


def test_transform_fields_that_contradict_are_refused():
    with pytest.raises(PrototxtError, match="image_data_param.crop_size is 7 but transform_param.crop_size is 5"):
        parse_net("layers { type: IMAGE_SEG_DATA transform_param { crop_size: 5 } image_data_param { crop_size: 7 } }")


def test_v1_multipliers_names_and_modes_become_params():
    layer = parse_net('layers { type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 param: "w" '
                      "blob_share_mode: PERMISSIVE strict_dim: false loss_weight: 3 include { phase: TEST stage: 's' "
                      "min_level: 1 not_stage: 't' } }").layers[0]
    assert [(p.name, p.lr_mult, p.decay_mult, p.share_mode) for p in layer.params] == [
        ("w", 1, 1, "PERMISSIVE"), ("", 2, 0, "STRICT")]
    assert layer.strict_dim is False
    assert layer.loss_weights == (3.0,)
    rule = layer.include[0]
    assert (rule.phase, rule.min_level, rule.max_level, rule.stages, rule.not_stages) == (
        Phase.TEST, 1, None, ("s",), ("t",))


def test_v1_softmax_loss_keeps_its_set_of_labels():
    layer = parse_net('layers { type: SOFTMAX_LOSS softmaxloss_param { ignore_label: [255, 0] weight_source: "w" } }'
                      ).layers[0]
    assert layer.type == "SoftmaxWithLoss"
    assert layer.fields.softmaxloss_param.ignore_label == (255, 0)
    assert not layer.fields.has("loss_param")


def test_batch_norm_with_three_params_is_frozen():
    net = parse_net('layer { type: "BatchNorm" param { lr_mult: 1 } param { lr_mult: 2 } param { decay_mult: 3 } } '
                    'layer { type: "BatchNorm" param { lr_mult: 5 } }')
    assert [(p.lr_mult, p.decay_mult) for p in net.layers[0].params] == [(0, 0)] * 3
    assert net.layers[1].params[0].lr_mult == 5


V0 = ('layers {{ layer {{ name: "p" type: "padding" pad: 2 }} bottom: "d" top: "p" }}\n'
      'layers {{ layer {{ name: "x" type: "{}" {} }} bottom: "p" top: "x" }}')


def test_v0_padding_folds_into_pooling_too():
    layer = parse_net(V0.format("pool", "pool: AVE kernelsize: 3")).layers[0]
    assert (layer.name, layer.bottoms) == ("x", ("d",))
    param = layer.fields.pooling_param
    assert (param.pad, param.kernel_size, param.pool) == (2, 3, "AVE")


def test_v0_data_layer_is_spread_over_three_messages():
    layer = parse_net('layers { layer { name: "d" type: "images" source: "l" batchsize: 5 meanfile: "m" cropsize: 7 '
                      'mirror: true scale: 0.5 shuffle_images: true new_height: 9 new_width: 8 rand_skip: 3 } '
                      'top: "d" }').layers[0]
    assert layer.type == "ImageData"
    image, transform = layer.fields.image_data_param, layer.fields.transform_param
    assert (image.source, image.batch_size, image.shuffle, image.new_height, image.new_width, image.rand_skip) == (
        "l", 5, True, 9, 8, 3)
    assert (transform.mean_file, transform.crop_size, transform.mirror, transform.scale) == ("m", 7, True, 0.5)


@pytest.mark.parametrize(("kind", "option", "words"), [
    ("relu", "", "a padding layer must lead into conv"), ("nonsense", "", "a padding layer must lead into"),
    ("conv", "dropout_ratio: 0.5", "has no option 'dropout_ratio'")])
def test_v0_that_does_not_fit_is_refused(kind, option, words):
    with pytest.raises(PrototxtError, match=words):
        parse_net(V0.format(kind, option), path="n.prototxt")


def test_v0_unknown_type_lists_the_known():
    with pytest.raises(PrototxtError, match=r"n.prototxt:1:10: layer 'x': unknown type 'convolve'.*conv, "):
        parse_net('layers { layer { name: "x" type: "convolve" } }', path="n.prototxt")


def test_blobs_in_text_are_refused():
    for text in ('layer { name: "a" blobs { data: 1 } }', 'layers { layer { type: "conv" blobs { data: 1 } } }'):
        with pytest.raises(PrototxtError, match="blobs"):
            parse_net(text)


def test_solver_type_enum_becomes_type():
    for old, new in [("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADAGRAD", "AdaGrad"), ("RMSPROP", "RMSProp"),
                     ("ADADELTA", "AdaDelta"), ("ADAM", "Adam"), ("1", "Nesterov")]:
        solver = parse_solver(f"solver_type: {old}")
        assert (solver.type, solver.has("solver_type")) == (new, False)
    assert parse_solver("").type == "SGD"
    with pytest.raises(PrototxtError, match="both type"):
        parse_solver('type: "Adam" solver_type: SGD')
