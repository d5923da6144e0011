"""Strides and receptive fields are those that a perturbed input shows; sums are those of small nets."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.formats.prototxt import parse_net
from atrouscaffe.graph.graph import Graph
from atrouscaffe.graph.report import describe, fields, render
from atrouscaffe.net import Net
from atrouscaffe.spec import TEST, TRAIN

SIZE = 61
HEAD = f"""input: "data" input_shape {{ dim: 1 dim: 1 dim: 1 dim: {SIZE} }}
"""
ONES = 'weight_filler { type: "constant" value: 1 }'


def conv(name: str, bottom: str, options: str) -> str:
    return (f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
            f'convolution_param {{ num_output: 1 kernel_h: 1 {options} {ONES} }} }}\n')


def pool(name: str, bottom: str, options: str) -> str:
    return (f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{name}" '
            f'pooling_param {{ kernel_h: 1 {options} }} }}\n')


CHAINS = {
    "convolution with hole": conv("a", "data", "kernel_w: 3 pad_h: 0 pad_w: 4 stride_h: 1 stride_w: 1 dilation: 4"),
    "two strides": conv("a", "data", "kernel_w: 5 pad_h: 0 pad_w: 2 stride_h: 1 stride_w: 3")
    + conv("b", "a", "kernel_w: 3 pad_h: 0 pad_w: 1 stride_h: 1 stride_w: 2"),
    "pools": pool("a", "data", "pool: AVE kernel_w: 3 pad_h: 0 pad_w: 1 stride_h: 1 stride_w: 2")
    + pool("b", "a", "pool: AVE kernel_w: 2 stride_h: 1 stride_w: 2")
    + conv("c", "b", "kernel_w: 3 pad_h: 0 pad_w: 1 stride_h: 1 stride_w: 1"),
    "branches": conv("a", "data", "kernel_w: 3 pad_h: 0 pad_w: 1 stride_h: 1 stride_w: 1")
    + conv("b", "data", "kernel_w: 7 pad_h: 0 pad_w: 3 stride_h: 1 stride_w: 1")
    + 'layer { name: "c" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }\n',
    "lopsided branches": conv("a", "data", "kernel_w: 3 pad_h: 0 pad_w: 2 stride_h: 1 stride_w: 1 dilation: 2")
    + conv("b", "data", "kernel_w: 5 pad_h: 0 pad_w: 2 stride_h: 1 stride_w: 1")
    + 'layer { name: "c" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }\n',
}


def seen(net: Net, output: int) -> np.ndarray:
    """Columns of the input that change one column of the output."""
    blob = net.outputs[0]
    base = net.forward(data=np.zeros((1, 1, 1, SIZE), np.float32))[blob].copy()
    changes = []
    for x in range(SIZE):
        data = np.zeros((1, 1, 1, SIZE), np.float32)
        data[..., x] = 1
        changes.append(net.forward(data=data)[blob][0, 0, 0, output] != base[0, 0, 0, output])
    return np.flatnonzero(changes)


@pytest.mark.parametrize("name", CHAINS)
def test_field_and_stride_are_what_a_perturbed_input_shows(name: str) -> None:
    net = Net(HEAD + CHAINS[name], TEST, dialect="bvlc")
    field = fields(net.graph)[net.graph.latest(net.outputs[0])][1]
    middle = net.blobs[net.outputs[0]].shape[3] // 2
    here, there = seen(net, middle), seen(net, middle + 1)
    assert field.extent == here[-1] - here[0] + 1
    assert field.stride == there[0] - here[0]
    assert field.begin + middle * field.step == here[0]


def test_upsampling_divides_the_stride_and_adds_a_pixel() -> None:
    text = HEAD.replace("dim: 1 dim: 61", "dim: 61 dim: 61") + pool(
        "a", "data", "kernel_w: 1 stride_h: 4 stride_w: 4").replace("kernel_h: 1", "kernel_h: 1") + (
        'layer { name: "up" type: "Interp" bottom: "a" top: "up" interp_param { zoom_factor: 8 } }\n')
    graph = Graph(parse_net(text, dialect="v2"), TEST)
    field = fields(graph)[graph.latest("up")][0]
    assert field.stride == 0.5
    assert field.extent == 5  # one pooled pixel and its right neighbour, four input pixels apart


def test_global_layer_sees_everything() -> None:
    text = HEAD + 'layer { name: "g" type: "Pooling" bottom: "data" top: "g" pooling_param { global_pooling: true } }\n'
    graph = Graph(parse_net(text), TEST)
    field = fields(graph)[graph.latest("g")][1]
    assert (field.extent, field.stride) == (None, None)
    assert "all" in render(describe(graph))


SUM = """name: "sums"
input: "data" input_shape { dim: 2 dim: 3 dim: 5 dim: 7 }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 11 kernel_size: 3 pad: 1 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param { num_output: 13 kernel_size: 1 } }
"""


def test_sums_of_a_small_net_are_those_counted_by_hand() -> None:
    report = describe(Graph(parse_net(SUM), TEST))
    assert report["parameters"] == 11 * 3 * 9 + 11 + 13 * 11 + 13
    assert report["macs"] == 2 * 5 * 7 * (11 * 27 + 13 * 11)
    assert report["flops"] == 2 * report["macs"]
    assert [row["params"] for row in report["layers"]] == [0, 11 * 27 + 11, 0, 13 * 12]
    assert report["inputs"] == {"data": [2, 3, 5, 7]} and report["outputs"] == {"d": [2, 13, 5, 7]}
    assert (report["score_layer"], report["stride"]) == ("d", [1, 1])
    assert report["receptive_field"] == {"true": [3, 3], "paper_padded": None, "paper_convolutional": None}
    blobs = {name: 4 * 2 * channels * 35 for name, channels in (("data", 3), ("c", 11), ("d", 13))}
    assert report["memory"]["keeping_blobs"] - report["memory"]["parameters"] == sum(blobs.values())
    assert report["memory"]["parameters"] == 4 * report["parameters"]
    assert report["peak_memory_bytes"] == report["memory"]["dropping_blobs"]
    training = describe(Graph(parse_net(SUM), TRAIN))
    assert training["peak_memory_bytes"] == training["memory"]["with_gradients"] > training["memory"]["keeping_blobs"]


def test_text_names_every_layer_and_the_sums() -> None:
    text = render(describe(Graph(parse_net(SUM), TEST)))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["input", "c", "r", "d"]
    assert f"{11 * 27 + 11 + 13 * 12:,}" in text and "sums" in text
    assert max(len(line) for line in lines) < 160
