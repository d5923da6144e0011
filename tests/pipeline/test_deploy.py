"""Any net as a function of one image."""

import pytest

from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats.prototxt import parse_net, read_net
from atrouscaffe.pipeline.deploy import make_deploy
from atrouscaffe.resources import resource

from .nets import conv, finite, head

VARIABLES = {"DATA_ROOT": "voc", "EXP": "voc12", "TEST_SET": "val", "NET_ID": "x", "FEATURE_DIR": "out",
             "NUM_LABELS": "21", "TRAIN_SET": "train"}


@pytest.mark.parametrize(("name", "crop"), [("deeplab", 514), ("deeplab-msc", 513), ("deeplab-4x4", 513),
                                            ("deeplab-7x7", 513), ("deeplab-largefov", 513),
                                            ("deeplab-msc-largefov", 513)])
def test_the_papers_test_nets_become_nets_of_one_image(name, crop):
    deploy = make_deploy(read_net(resource("prototxt", f"{name}/test.prototxt"), variables=VARIABLES))
    ours = make_deploy(read_net(resource("prototxt", f"{name}/deploy.prototxt")))
    assert deploy.size == ours.size == (crop, crop)
    assert deploy.transform is not None
    assert deploy.transform.mean_value == pytest.approx((104.008, 116.669, 122.675))
    assert ours.transform is None
    assert [spec.name for spec in deploy.spec.layers[1:]] == [spec.name for spec in ours.spec.layers[1:]]
    assert deploy.graph_at(deploy.size).shape(deploy.score) == (1, 21, crop, crop)
    assert deploy.steps() == (8, 8)
    assert deploy.shifts


@pytest.mark.parametrize(("name", "field"), [("deeplab", 308), ("deeplab-largefov", 435)])
def test_receptive_fields_are_those_of_the_released_nets(name, field):
    deploy = make_deploy(read_net(resource("prototxt", f"{name}/deploy.prototxt")))
    graph = deploy.graph_at(deploy.size)
    scores = "fc8_pascal" if name == "deeplab" else "fc8_voc12"
    from atrouscaffe.graph.report import fields

    assert [axis.extent for axis in fields(graph)[graph.latest(scores)]] == [field, field]


@pytest.mark.parametrize("end", [
    'layer { name: "p" type: "Softmax" bottom: "up" top: "prob" }',
    'layer { name: "p" type: "Softmax" bottom: "up" top: "up" }',
    'layer { name: "p" type: "Softmax" bottom: "up" top: "prob" } layer { name: "a" type: "ArgMax" bottom: "prob" '
    'top: "a" argmax_param { axis: 1 } }',
    'layer { name: "w" type: "MatWrite" bottom: "up" mat_write_param { prefix: "x" } }',
    'layer { name: "s" type: "Silence" bottom: "up" }',
])
def test_layers_behind_the_scores_are_left_out(end):
    deploy = make_deploy(parse_net(finite() + end))
    assert deploy.score == "up"
    assert deploy.spec.layers[-1].name == "up"


def test_branches_that_do_not_lead_to_the_scores_are_left_out():
    deploy = make_deploy(parse_net(finite() + conv("other", "c2", 3)), output="up")
    assert "other" not in [spec.name for spec in deploy.spec.layers]


def test_training_nets_lose_label_and_loss(oracle):
    deploy = make_deploy(read_net(oracle / "nets" / "v1_deeplab_largefov" / "net.prototxt"))
    assert deploy.score == "fc8_voc12"
    assert deploy.input == "data"
    assert "loss" not in [spec.name for spec in deploy.spec.layers]


def test_batches_become_one_image():
    deploy = make_deploy(parse_net(finite().replace("input_dim: 1 ", "input_dim: 10 ", 1)))
    assert deploy.graph_at(deploy.size).shape("data")[0] == 1


@pytest.mark.parametrize(("text", "word"), [
    ('input: "a" input_dim: 1 input_dim: 5 input_dim: 8 input_dim: 8 ' + conv("c", "a", 3), "one image input"),
    (head((8, 8)) + 'layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" inner_product_param '
     '{ num_output: 3 } }', "one output"),
    ('layer { name: "d" type: "ImageSegData" top: "data" image_data_param { source: "x" } }' + conv("c", "data", 3),
     "crop_size"),
    (head((8, 8)) + 'layer { name: "h" type: "DummyData" top: "h" dummy_data_param { shape { dim: 1 dim: 3 dim: 8 '
     'dim: 8 } } } layer { name: "e" type: "Eltwise" bottom: "data" bottom: "h" top: "e" }', "one image input"),
])
def test_nets_that_are_no_function_of_an_image_are_refused(text, word):
    with pytest.raises(ArgumentError, match=word):
        make_deploy(parse_net(text))


def test_fixed_sizes_grow_with_the_image_or_say_why_not():
    fixed = finite((33, 41), up="height: 33 width: 41")
    deploy = make_deploy(parse_net(fixed))
    assert deploy.graph_at((49, 57)).shape("up") == (1, 7, 49, 57)
    odd = make_deploy(parse_net(finite((33, 41), up="height: 12 width: 41")))
    with pytest.raises(ArgumentError, match=r"'up'.* fit are 32k \+ 1, such as 33 and 65"):
        odd.graph_at((37, 41))
