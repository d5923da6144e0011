"""Wiring: what is refused and why, in-place chains, the way of gradients, memory plans."""

from __future__ import annotations

import math

import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.errors import BudgetError, GraphError, LayerError, ShapeError
from atrouscaffe.formats.prototxt import parse_net
from atrouscaffe.graph.graph import Graph
from atrouscaffe.graph.memory import plan

DATA = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }\n'


def layer(name, type_, bottoms="", tops="", more=""):
    """One layer as text; bottoms and tops are words."""
    lines = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "{type_}" {" ".join(lines)} {more} }}\n'


def graph(text, phase=TEST, **options):
    return Graph(parse_net(DATA + text), phase, **options)


@pytest.mark.parametrize("text, words", [
    (layer("r", "ReLU", "nothing", "out"), "unknown bottom 'nothing'"),
    (layer("r", "ReLU", "dat", "out"), "nearest name is 'data'"),
    (layer("r", "ReLU", "out", "out"), "own top: a cycle"),
    (layer("a", "ReLU", "y", "x") + layer("b", "ReLU", "x", "y"), "written only later"),
    (layer("a", "ReLU", "data", "x") + layer("b", "ReLU", "data", "x"), "written twice"),
    (layer("a", "Slice", "data", "x x", "slice_param { axis: 0 }"), "written twice"),
    (layer("a", "ReLU", "data data", "x"), "expected 1 bottoms, got 2"),
    (layer("a", "ReLU", "data", "x") + layer("b", "ReLU", "x", "y") + layer("c", "ReLU", "x", "x"), "also reads"),
    (layer("a", "Pooling", "data", "data", "pooling_param { kernel_size: 2 }"), "cannot work in place"),
    (layer("a", "Eltwise", "data", "x"), "expected 2 or more bottoms"),
    (layer("a", "ReLU", "data", "x", "loss_weight: 1 loss_weight: 2"), "loss_weight: expected at most 1"),
], ids=lambda value: value if len(value) < 30 else "net")
def test_wrong_wiring_is_refused_with_place_and_reason(text, words):
    with pytest.raises(GraphError, match=words) as caught:
        graph(text)
    assert "layer '" in str(caught.value)


def test_unknown_type_names_the_nearest():
    with pytest.raises(LayerError, match="nearest name is 'Convolution'"):
        graph(layer("c", "Convolutoin", "data", "x"))


def test_python_layers_are_refused():
    with pytest.raises(LayerError, match="refused"):
        graph(layer("p", "Python", "data", "x"))


def test_include_and_exclude_follow_phase_level_and_stage():
    text = (layer("a", "ReLU", "data", "a", "include { phase: TRAIN }")
            + layer("b", "ReLU", "data", "b", "exclude { phase: TRAIN }")
            + layer("c", "ReLU", "data", "c", 'include { stage: "s" not_stage: "t" }')
            + layer("d", "ReLU", "data", "d", "include { min_level: 2 max_level: 3 }"))

    def names(**state):
        return {node.spec.name for node in graph(text, **state).nodes} - {"in"}

    assert names(phase=TRAIN) == {"a"}
    assert names(phase=TEST) == {"b"}
    assert names(stages=["s"]) == {"b", "c"}
    assert names(stages=["s", "t"]) == {"b"}
    assert names(level=2) == {"b", "d"}
    assert names(level=4) == {"b"}
    with pytest.raises(GraphError, match="either include or exclude"):
        graph(layer("a", "ReLU", "data", "a", "include { phase: TRAIN } exclude { phase: TEST }"))


CONV = "convolution_param { num_output: 4 kernel_size: 1 }"
LABEL = 'layer { name: "l" type: "Input" top: "label" input_param { shape { dim: 2 dim: 1 dim: 5 dim: 7 } } }\n'


def backward_layers(text):
    return {node.spec.name for node in graph(text).nodes if node.backward}


def test_gradients_stop_below_the_lowest_trained_layer():
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 } "
    text = (LABEL + layer("c1", "Convolution", "data", "x", frozen + CONV) + layer("r", "ReLU", "x", "x")
            + layer("c2", "Convolution", "x", "y", CONV) + layer("loss", "SoftmaxWithLoss", "y label", "loss"))
    assert backward_layers(text) == {"c2", "loss"}


def test_gradients_do_not_enter_branches_without_a_loss():
    text = (LABEL + layer("c1", "Convolution", "data", "x", CONV) + layer("c2", "Convolution", "x", "y", CONV)
            + layer("c3", "Convolution", "x", "z", CONV) + layer("loss", "SoftmaxWithLoss", "y label", "loss")
            + layer("best", "ArgMax", "z", "best", "argmax_param { axis: 1 }"))
    assert backward_layers(text) == {"c1", "c2", "loss"}


def test_propagate_down_false_cuts_the_way():
    text = (LABEL + layer("c1", "Convolution", "data", "x", CONV)
            + layer("c2", "Convolution", "x", "y", CONV + " propagate_down: false")
            + layer("loss", "SoftmaxWithLoss", "y label", "loss"))
    assert backward_layers(text) == {"c2", "loss"}


def test_plan_without_overlap_and_no_larger_than_all_blobs():
    text = "".join(layer(f"c{i}", "Convolution", f"x{i}" if i else "data", f"x{i + 1}", CONV) for i in range(6))
    text += layer("sum", "Eltwise", "x2 x6", "out")
    net = graph(text)
    result = plan(net, keep=[])
    lives = {}
    for value in net.values:
        last = max([value.producer[0], *(node for node, _ in value.readers)])
        lives[value.storage] = (value.producer[0], last, math.prod(value.shape) * 4)
    placed = [(result.offsets[s], result.offsets[s] + size, first, last)
              for s, (first, last, size) in lives.items() if s in result.offsets]
    for i, (begin, end, first, last) in enumerate(placed):
        assert end <= result.arena_bytes
        for other_begin, other_end, other_first, other_last in placed[i + 1:]:
            assert end <= other_begin or other_end <= begin or last < other_first or other_last < first
    assert result.activation_bytes < plan(net).activation_bytes
    assert plan(net).kept_bytes == sum(math.prod(v.shape) * 4 for v in net.values)


def test_budget_refuses_before_allocation():
    huge = DATA.replace("dim: 5 dim: 7", "dim: 9000 dim: 9000")
    text = huge + layer("c", "Convolution", "data", "x", CONV)
    with pytest.raises(BudgetError, match="largest blob"):
        Net(text, TEST, memory_budget=10**9)
    with pytest.raises(ShapeError):
        Net(DATA.replace("dim: 5 dim: 7", "dim: 2000000 dim: 2000000"), TEST)


def test_net_with_keep_gives_the_same_and_refuses_what_is_gone(rng):
    text = DATA + "".join(layer(f"c{i}", "Convolution", f"x{i}" if i else "data", f"x{i + 1}",
                                CONV[:-1] + 'weight_filler { type: "gaussian" std: 1 } }') for i in range(4))
    whole, lean = Net(text, TEST, seed=3), Net(text, TEST, seed=3, keep=["x2"])
    data = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
    expected = whole.forward(data=data)["x4"].copy()
    np.testing.assert_array_equal(lean.forward(data=data)["x4"], expected)
    np.testing.assert_array_equal(lean.blobs["x2"].data, whole.blobs["x2"].data)
    with pytest.raises(KeyError, match="keeps only"):
        lean.blobs["x1"]
    with pytest.raises(GraphError, match="keep"):
        lean.backward()
    data = rng.standard_normal((1, 3, 9, 4)).astype(np.float32)
    for net in (whole, lean):
        net.blobs["data"].reshape(*data.shape)
    np.testing.assert_array_equal(lean.forward(data=data)["x4"], whole.forward(data=data)["x4"])
