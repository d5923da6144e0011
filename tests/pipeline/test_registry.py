"""Known models."""

import hashlib

import pytest

from atrouscaffe.crf.presets import PRESETS
from atrouscaffe.errors import ArgumentError, FileMissingError
from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.graph.graph import Graph
from atrouscaffe.pipeline.registry import KNOWN, by_name, by_weights, find_prototxt, missing_weights
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
    with pytest.raises(ArgumentError, match=r"deploy\.prototxt"):
        find_prototxt("ENet")
    (tmp_path / "deeplab").write_text("x")
    assert find_prototxt(tmp_path / "deeplab") == tmp_path / "deeplab"
