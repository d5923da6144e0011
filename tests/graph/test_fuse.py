"""A convolution that takes over the ReLU behind it gives what both give one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, Net
from atrouscaffe.graph.fuse import folded_relus

HEAD = 'input: "x" input_shape { dim: 2 dim: 6 dim: 7 dim: 5 } '


def conv(name: str, bottom: str, more: str = "") -> str:
    return (f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ '
            f'num_output: 6 kernel_size: 3 pad: 2 hole: 2 weight_filler {{ type: "gaussian" std: 0.3 }} '
            f'bias_filler {{ type: "gaussian" std: 1 }} {more} }} }} ')


def relu(blob: str, top: str | None = None, slope: float = 0) -> str:
    return (f'layer {{ name: "relu_{blob}" type: "ReLU" bottom: "{blob}" top: "{top or blob}" '
            f'relu_param {{ negative_slope: {slope} }} }} ')


@pytest.mark.parametrize("group", ["", "group: 2", "group: 6", "kernel_h: 1 kernel_w: 1"])
def test_folded_pair_equals_the_layers_one_by_one(group: str) -> None:
    more = group
    text = HEAD + (conv("a", "x", more) if "kernel_h" not in more else
                   conv("a", "x").replace("kernel_size: 3 pad: 2 hole: 2", "kernel_size: 1"))
    text += relu("a") + conv("b", "a") + relu("b", slope=0.1) + conv("c", "b") + relu("c", "d") + conv("e", "d")
    x = np.random.default_rng(3).standard_normal((2, 6, 7, 5), np.float32)
    whole, lean = Net(text, TEST, seed=5), Net(text, TEST, seed=5, keep=[])
    assert list(folded_relus(lean.graph).values()) == [2]  # not with a slope, nor into another blob
    wanted, got = whole.forward(x=x), lean.forward(x=x)
    assert (whole.blobs["a"].data >= 0).all() and (whole.blobs["a"].data > 0).any()
    np.testing.assert_array_equal(got["e"], wanted["e"])
    seen = []
    lean.watch(forward=lambda node: seen.append(node.spec.name))
    np.testing.assert_array_equal(lean.forward(x=x)["e"], wanted["e"])
    assert "relu_a" in seen


def test_convolution_that_another_layer_reads_keeps_its_values() -> None:
    text = HEAD + conv("a", "x") + relu("a", "r") + conv("b", "a")
    assert folded_relus(Net(text, TEST, seed=1).graph) == {}
