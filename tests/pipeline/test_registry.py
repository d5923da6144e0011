"""Known models."""

import hashlib

import pytest

from atrouscaffe import Segmenter
from atrouscaffe.crf.presets import PRESETS
from atrouscaffe.data.label_sets import label_set_names
from atrouscaffe.errors import ArgumentError, FileMissingError, LayerError
from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.graph.graph import Graph
from atrouscaffe.pipeline.registry import KNOWN, by_name, by_weights, find_prototxt, missing_weights, split_model
from atrouscaffe.spec import TEST


@pytest.mark.parametrize("model", [m for m in KNOWN if m.prototxt], ids=lambda m: m.name)
def test_entries_fit_their_nets(model):
    graph = Graph(read_net(find_prototxt(model.name)), TEST)
    assert graph.parameter_count() == model.parameters
    assert graph.net.name == model.name


def test_every_entry_can_be_used():
    names = [name for model in KNOWN for name in {word.lower() for word in (model.name, *model.aliases)}]
    assert len(set(names)) == len(names)
    for model in KNOWN:
        assert model.crf in PRESETS
        assert len(model.mean) == 3
        assert by_name(model.name.upper()) is model
        assert model.title in missing_weights(model)
        assert model.system and (model.prototxt or model.net)
        assert not model.labels or model.labels in label_set_names()


def test_published_weights_are_named_with_place_and_size():
    text = missing_weights(by_name("vgg128_noup_pool3_20M_largewin3"))
    assert "train2_iter_8000.caffemodel" in text
    assert "DeepLab-LargeFOV/" in text
    assert "82 MB" in text
    assert "never released" in missing_weights(by_name("deeplab-7x7"))


def test_weights_are_known_by_their_hash(tmp_path, shared_data):
    path = shared_data / "models" / "deeplabv3_mnv2" / "deeplabv3_mnv2_dm05_voc.caffemodel"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in by_name("deeplabv3_mnv2_dm05_voc").sha256
    assert by_weights(path).name == "deeplabv3_mnv2_dm05_voc"
    (tmp_path / "other").write_bytes(b"x")
    assert by_weights(tmp_path / "other") is None
    assert by_weights(tmp_path / "none") is None


def test_unknown_names_and_nets_that_do_not_come_along(tmp_path):
    with pytest.raises(FileMissingError, match="deeplab-largefov"):
        find_prototxt("deeplab-largefof")
    with pytest.raises(ArgumentError, match=r"enet_deploy_final\.prototxt.*TimoSaemann.*ENet=FILE\.prototxt"):
        find_prototxt("ENet")
    (tmp_path / "deeplab").write_text("x")
    assert find_prototxt(tmp_path / "deeplab") == tmp_path / "deeplab"


def test_nets_of_others_lie_beside_the_weights_or_are_named(tmp_path):
    net, other = tmp_path / "pspnet101_VOC2012_473.prototxt", tmp_path / "other.prototxt"
    weights = tmp_path / "pspnet101_VOC2012.caffemodel"
    with pytest.raises(ArgumentError, match="beside the weights"):
        find_prototxt("pspnet101-voc", weights)
    for file in (net, other):
        file.write_text("x")
    assert find_prototxt("pspnet101-voc", weights) == net
    assert find_prototxt("PSPNet101-VOC", f"{weights},more.caffemodel") == net
    assert find_prototxt(f"pspnet101-voc={other}") == other
    assert split_model(f"pspnet101-voc={other}") == (by_name("pspnet101-voc"), str(other))
    with pytest.raises(FileMissingError, match="none.prototxt"):
        find_prototxt("pspnet101-voc=none.prototxt")
    with pytest.raises(ArgumentError, match="'pspnet102-voc'"):
        find_prototxt(f"pspnet102-voc={other}")
    (tmp_path / "a=b").write_text("x")
    assert find_prototxt(tmp_path / "a=b") == tmp_path / "a=b"


def scores(name, classes, kernel=1):
    return f'''layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}"
        convolution_param {{ num_output: {classes} kernel_size: {kernel} }} }}'''


def test_a_known_model_brings_preprocessing_size_and_classes(tmp_path):
    """SegNet's own inference net reads a list and says no size; its classes are CamVid's."""
    text = """layer { name: "data" type: "DenseImageData" top: "data" top: "label"
        dense_image_data_param { source: "/SegNet/test.txt" batch_size: 1 } }""" + scores("s", 11) + """
        layer { name: "prob" type: "Softmax" bottom: "s" top: "prob" }"""
    (tmp_path / "segnet_inference.prototxt").write_text(text)
    with pytest.raises(ArgumentError, match="input size is not known"):
        Segmenter(tmp_path / "segnet_inference.prototxt", mean=0, allow_missing=True)
    segmenter = Segmenter(f"segnet-camvid={tmp_path / 'segnet_inference.prototxt'}", allow_missing=True)
    assert segmenter.deploy.size == (360, 480)
    assert segmenter.label_set.name == "camvid" and segmenter.names[3] == "road"
    assert not segmenter.mean.any() and segmenter.preprocessing == "known model segnet-camvid"


def test_a_python_layer_of_data_gives_way_to_an_input_where_the_size_is_known(tmp_path):
    """FCN's nets read their data by Python layers, which are not run."""
    text = """layer { name: "data" type: "Python" top: "data" top: "sem" top: "geo"
        python_param { module: "siftflow_layers" layer: "SIFTFlowSegDataLayer" } }
        """ + scores("score_sem", 33) + scores("score_geo", 3) + """
        layer { name: "l" type: "SoftmaxWithLoss" bottom: "score_sem" bottom: "sem" top: "loss" }"""
    (tmp_path / "test.prototxt").write_text(text)
    segmenter = Segmenter(f"fcn8s-sift-flow={tmp_path / 'test.prototxt'}", allow_missing=True)
    assert segmenter.deploy.score == "score_sem" and segmenter.deploy.size == (256, 256)
    assert segmenter.label_set.name == "sift-flow"
    with pytest.raises(LayerError, match="Python"):
        Segmenter(tmp_path / "test.prototxt", mean=0, allow_missing=True)


def test_scores_of_one_channel_are_refused():
    text = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 64 input_dim: 64 ' + scores("a", 1)
    with pytest.raises(ArgumentError, match="not which"):
        Segmenter(text, mean=0, output="a", allow_missing=True)
