"""caffe.draw: labels, graphs, files."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from google.protobuf import text_format

import atrouscaffe.pycaffe as caffe
from atrouscaffe.errors import DependencyError
from atrouscaffe.pipeline import netgraph
from atrouscaffe.pycaffe.proto import caffe_pb2
from tests.pycaffe.nets import DEPLOY
from tests.pycaffe.test_caffe_pb2 import OLD

FOLDER = Path(__file__).resolve().parents[2] / "prototxt"


def parse(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layer(text):
    return parse(f"layer {{ {text} }}").layer[0]


@pytest.fixture
def no_graphviz(monkeypatch):
    monkeypatch.setattr(netgraph.shutil, "which", lambda name: None)


def test_labels_say_name_type_window_and_rates():
    convolution = layer('name: "c" type: "Convolution" param { lr_mult: 2 } convolution_param { num_output: 8 '
                        'kernel_size: 3 pad: 1 }')
    draw = caffe.draw
    assert draw.get_layer_label(convolution, "LR") == r'"c\n(Convolution)\nkernel size: 3\nstride: 1\npad: 1"'
    assert draw.get_layer_label(convolution, "TB", display_lrm=True) == \
        '"c (Convolution) kernel size: 3 stride: 1 pad: 1 lr mult: 2.0, 1.0"'
    pooling = layer('name: "p" type: "Pooling" pooling_param { pool: AVE kernel_size: 2 stride: 2 }')
    assert draw.get_layer_label(pooling, "TB") == '"p (Pooling AVE) kernel size: 2 stride: 2 pad: 0"'
    assert draw.get_edge_label(convolution) == "8" and draw.get_edge_label(pooling) == '""'
    assert draw.get_edge_label(layer('type: "Data" data_param { batch_size: 5 }')) == "Batch 5"
    assert draw.get_layer_lr_mult(convolution) == (2, 1)
    with pytest.raises(ValueError, match="Pooling"):
        draw.get_layer_lr_mult(pooling)
    assert draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
    assert draw.choose_color_by_layertype("Pooling") != draw.choose_color_by_layertype("ReLU")


def test_the_graph_has_a_node_for_each_layer_and_blob():
    graph = caffe.draw.get_pydot_graph(parse(DEPLOY), "LR")
    names = [node.get_name().strip('"') for node in graph.get_nodes()]
    assert len(names) == 9 and {"data", "conv", "ip", "prob"} <= set(names)
    edges = {(e.get_source().strip('"'), e.get_destination().strip('"')) for e in graph.get_edges()}
    assert (r"relu\n(ReLU)", "conv") in edges and ("conv", r"relu\n(ReLU)") in edges
    assert [e.get("label") for e in graph.get_edges() if e.get_destination() == "ip"] == ["5"]
    text = graph.to_string()
    assert text.startswith("digraph deploy {\nrankdir=LR;") and text.count("->") == len(graph.get_edges()) == 9
    assert re.search(r'"relu\\n\(ReLU\)" \[shape=record, fillcolor="#90EE90", style=filled\];', text)


def test_phases_leave_layers_out():
    net = parse('layer { name: "a" type: "ReLU" top: "a" include { phase: TRAIN } } layer { name: "b" type: "ReLU" '
                'top: "b" exclude { phase: TRAIN } } layer { name: "c" type: "ReLU" top: "c" }')

    def blobs(phase):
        nodes = caffe.draw.get_pydot_graph(net, "TB", phase=phase).get_nodes()
        return {node.get_name() for node in nodes if "(" not in node.get_name()}

    assert blobs(None) == {"a", "b", "c"}
    assert blobs(caffe_pb2.TRAIN) == {"a", "c"}
    assert blobs(caffe_pb2.TEST) == {"b", "c"}


@pytest.mark.parametrize("rankdir", ["LR", "TB", "BT", "RL"])
def test_pictures_are_drawn_without_graphviz(no_graphviz, rankdir):
    from xml.etree import ElementTree

    from PIL import Image

    root = ElementTree.fromstring(caffe.draw.draw_net(parse(DEPLOY), rankdir, "svg"))
    space = "{http://www.w3.org/2000/svg}"
    boxes = [tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in root.findall(f"{space}rect")]
    assert len(boxes) == 9
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and x + w <= float(root.get("width")) and y >= 0 and y + h <= float(root.get("height"))
        for x2, y2, w2, h2 in boxes[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    along = [box[0 if rankdir in ("LR", "RL") else 1] for box in boxes]
    assert (along[0] < along[-1]) == (rankdir in ("LR", "TB"))
    png = Image.open(io.BytesIO(caffe.draw.draw_net(parse(DEPLOY), rankdir)))
    assert png.format == "PNG" and abs(png.width - float(root.get("width"))) < 2
    assert len(png.getcolors(1 << 20)) > 4
    with pytest.raises(DependencyError, match="Graphviz"):
        caffe.draw.draw_net(parse(DEPLOY), rankdir, "pdf")


def test_files_of_every_format(tmp_path, no_graphviz):
    for ext, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("dot", b"digraph"), ("raw", b"digraph")):
        caffe.draw.draw_net_to_file(parse(DEPLOY), str(tmp_path / f"net.{ext}"), "TB")
        assert (tmp_path / f"net.{ext}").read_bytes().startswith(start)
    graph = caffe.draw.get_pydot_graph(parse(DEPLOY), "LR")
    assert graph.write_svg(tmp_path / "a") and graph.create_png()[:4] == b"\x89PNG" and graph.write(tmp_path / "b.dot")
    assert (tmp_path / "b.dot").read_text() == graph.to_string()


def test_every_net_of_the_repository_and_old_ones_can_be_drawn(no_graphviz):
    from atrouscaffe.formats.prototxt import read_net, write_net

    drawn = 0
    for path in sorted(FOLDER.rglob("*.prototxt"))[:12]:
        if "solver" in path.name:
            continue
        net = parse(write_net(read_net(path, variables={"NUM_LABELS": "21"}), None)
                    ) if "${" not in path.read_text() else None
        if net is not None:
            assert caffe.draw.draw_net(net, "LR", "svg").count(b"<rect") > len(net.layer)
            drawn += 1
    assert drawn
    assert b"Convolution" in caffe.draw.draw_net(parse(OLD), "LR", "svg")
