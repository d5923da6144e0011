"""The command convert, through the command line's front door."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.cli.main import main
from atrouscaffe.formats.mean import read_mean
from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.formats.solverstate import read_solverstate
from atrouscaffe.formats.weights import open_weights

CASE = "nets/v1_deeplab_largefov"


def convert(*arguments) -> int:
    return main(["convert", *map(str, arguments)])


def test_v1_net_becomes_one_that_v2_reads(tmp_path, oracle, capsys):
    assert convert(oracle / CASE / "net.prototxt", tmp_path / "n.prototxt") == 0
    text = (tmp_path / "n.prototxt").read_text()
    assert "layer {" in text
    assert "dilation: 12" in text
    assert "loss_param {\n    ignore_label: 255" in text
    assert "softmaxloss_param" not in text
    net = read_net(tmp_path / "n.prototxt")
    assert net.dialect == "v2"  # it has Interp
    assert "wrote" in capsys.readouterr().out
    assert convert(tmp_path / "n.prototxt", tmp_path / "old.prototxt", "--to-dialect", "v1") == 0
    old, first = read_net(tmp_path / "old.prototxt"), read_net(oracle / CASE / "net.prototxt")
    assert old.dialect == "v1"
    assert [(a.name, a.type, a.bottoms, a.tops, a.params) for a in old.layers] == [
        (b.name, b.type, b.bottoms, b.tops, b.params) for b in first.layers]
    assert [a.fields.softmaxloss_param for a in old.layers] == [b.fields.softmaxloss_param for b in first.layers]


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_weights_go_round_through_every_format(tmp_path, oracle, dialect):
    source = oracle / CASE / "weights.caffemodel"
    wanted = open_weights(source).arrays(natural=True)
    assert convert(source, tmp_path / "a.caffemodel", "--to-dialect", dialect) == 0
    assert open_weights(tmp_path / "a.caffemodel").dialect == dialect
    assert convert(tmp_path / "a.caffemodel", tmp_path / "b.caffemodel.h5") == 0
    net = oracle / CASE / "net.prototxt"
    assert convert(tmp_path / "b.caffemodel.h5", tmp_path / "c.caffemodel", "--net", net) == 0
    for name in ("a.caffemodel", "b.caffemodel.h5", "c.caffemodel"):
        found = open_weights(tmp_path / name).arrays(natural=True)
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(a, b) and a.shape == b.shape
                   for key in wanted for a, b in zip(found[key], wanted[key])), name


def test_net_is_taken_out_of_weights_without_splits(tmp_path, oracle):
    case = oracle / "cases/v1_graph_fanout"
    assert convert(case / "weights.caffemodel", tmp_path / "n.prototxt", "--to-dialect", "v1") == 0
    found, wanted = read_net(tmp_path / "n.prototxt"), read_net(case / "net.prototxt")
    assert [(a.name, a.type, a.bottoms, a.tops, a.phase) for a in found.layers] == [
        (b.name, b.type, b.bottoms, b.tops, b.phase) for b in wanted.layers]


def test_half_is_half_the_size(tmp_path, oracle):
    source = oracle / CASE / "weights.caffemodel"
    assert convert(source, tmp_path / "a.h5") == convert(source, tmp_path / "b.h5", "--half") == 0
    records = [blob for layer in open_weights(tmp_path / "b.h5").layers for blob in layer.blobs]
    assert {record.dtype for record in records} == {"float16"}


def test_means_and_states(tmp_path, oracle):
    files = oracle / "files"
    assert convert(files / "mean.binaryproto", tmp_path / "m.npy") == 0
    assert convert(tmp_path / "m.npy", tmp_path / "m.binaryproto") == 0
    assert np.array_equal(read_mean(tmp_path / "m.binaryproto"), read_mean(files / "mean.npy"))
    assert convert(files / "snapshot_v2.solverstate", tmp_path / "s.solverstate.h5") == 0
    assert read_solverstate(tmp_path / "s.solverstate.h5").iter == 4


def test_placeholders_and_kind_are_told(tmp_path):
    (tmp_path / "net.txt").write_text('layer { name: "${A}" type: "ReLU" }')
    assert convert(tmp_path / "net.txt", tmp_path / "n.prototxt", "--as", "net", "--set", "A=r=1") == 0
    assert read_net(tmp_path / "n.prototxt").layers[0].name == "r=1"
    assert convert(tmp_path / "n.prototxt", tmp_path / "n.caffemodel") == 0
    assert open_weights(tmp_path / "n.caffemodel").net.layers[0].type == "ReLU"


def test_what_is_lost_is_told(tmp_path, oracle, capsys):
    source = oracle / "cases/v1_softmaxloss_weights/net.prototxt"
    assert convert(source, tmp_path / "n.prototxt") == 0
    assert "class weights (weight_source) are lost" in capsys.readouterr().err
    assert convert(oracle / CASE / "weights.caffemodel", tmp_path / "w.caffemodel", "--to-dialect", "bvlc") == 0
    assert "dialect bvlc has no LayerParameter.interp_param" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["n.prototxt", "m.npy"], "cannot convert"), (["m.npy", "n.prototxt"], "cannot convert"),
    (["n.prototxt", "w.h5"], "has no weights"), (["w.h5", "w.caffemodel"], "give one with --net"),
    (["n.prototxt", "x.bin"], "cannot tell what"), (["none.caffemodel", "w.h5"], "no such file"),
    (["n.prototxt", "o.prototxt", "--to-dialect", "v1"], "cannot say"),
    (["n.prototxt", "none/o.prototxt"], "no folder"), (["n.prototxt", "o.prototxt", "--set", "A"], "NAME=VALUE")])
def test_what_cannot_be_is_one_paragraph_and_status_2(tmp_path, monkeypatch, capsys, oracle, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "n.prototxt").write_text('layer { name: "b" type: "BatchNorm" batch_norm_param { eps: 1 } }')
    np.save(tmp_path / "m.npy", np.ones((3, 1, 1)))
    (tmp_path / "w.h5").write_bytes((oracle / "files/snapshot.caffemodel.h5").read_bytes())
    before = sorted(tmp_path.iterdir())
    assert convert(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert sorted(tmp_path.iterdir()) == before
