"""Nets that keep few blobs: layers that do others' work and share memory give what the layers give one by one."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, Net

HEAD = 'input: "x" input_shape { dim: 1 dim: 6 dim: 9 dim: 17 } '


def layer(kind: str, name: str, bottoms: str, top: str, more: str = "") -> str:
    wires = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    tops = " ".join(f'top: "{name}"' for name in top.split())
    return f'layer {{ name: "{name}" type: "{kind}" {wires} {tops} {more} }} '


def conv(name: str, bottom: str, outputs: int = 6, more: str = "kernel_size: 3 pad: 1", kind: str = "Convolution",
         top: str = "") -> str:
    return layer(kind, name, bottom, top or name,
                 f'convolution_param {{ num_output: {outputs} {more} weight_filler {{ type: "gaussian" std: 0.3 }} '
                 'bias_filler { type: "gaussian" std: 1 } }')


NORM = layer("BatchNorm", "norm", "a", "n", "batch_norm_param { eps: 1e-3 }")
SCALE = layer("Scale", "scale", "n", "n", 'scale_param { bias_term: true filler { type: "uniform" min: 0.5 max: 2 } '
              'bias_filler { type: "gaussian" std: 1 } }')
BN = layer("BN", "bn", "a", "n", 'bn_param { bn_mode: INFERENCE scale_filler { type: "uniform" min: 0.5 max: 2 } '
           'shift_filler { type: "gaussian" std: 1 } }')
PRELU = layer("PReLU", "prelu", "n", "p", 'prelu_param { filler { type: "uniform" min: 0.1 max: 0.6 } }')
SUM = 'eltwise_param { operation: SUM }'

NETS = {
    "norm": (conv("a", "x") + NORM + SCALE + PRELU, 1),
    "norm in place": (conv("a", "x") + NORM.replace('top: "n"', 'top: "a"') + SCALE.replace('"n"', '"a"'), 1),
    "norm of groups": (conv("a", "x", 6, "kernel_size: 3 group: 6 stride: 2") + BN + PRELU, 1),
    "norm of a deconvolution": (conv("a", "x", 4, "kernel_size: 4 stride: 2 pad: 1 group: 2", "Deconvolution") + BN +
                                PRELU, 1),
    "bias": (conv("a", "x", more="kernel_size: 1 bias_term: false") + layer(
        "Bias", "bias", "a", "n", 'bias_param { filler { type: "gaussian" std: 1 } }') + PRELU, 1),
    "activations": (conv("a", "x") + layer("ReLU6", "r", "a", "a") + conv("b", "a") + layer(
        "Clip", "c", "b", "c", "clip_param { min: 0 max: 2 }") + conv("d", "c") + layer(
        "ReLU", "e", "d", "e", "relu_param { negative_slope: 0.2 }"), 3),
    "clip from below 0 runs by itself": (conv("a", "x") + layer("Clip", "c", "a", "c",
                                                                "clip_param { min: -1 max: 2 }"), 2),
    "residual": (conv("a", "x") + conv("n", "a", more="kernel_size: 1") + layer("Eltwise", "s", "n a", "s", SUM) +
                 layer("ReLU", "r", "s", "s"), 2),
    "residual of norms": (conv("a", "x") + BN + conv("b", "x", more="kernel_size: 1") + layer(
        "Eltwise", "s", "n b", "s", SUM) + layer("ReLU", "r", "s", "t"), 2),
    "sum of pools": (layer("Pooling", "a", "x", "a", "pooling_param { kernel_size: 3 stride: 1 pad: 1 }") +
                     layer("Eltwise", "s", "a x", "n", SUM) + SCALE.replace('top: "n"', 'top: "m"') +
                     PRELU.replace('bottom: "n"', 'bottom: "m"'), 2),
    "weighted sum": (conv("a", "x") + conv("b", "x") + layer(
        "Eltwise", "s", "a b", "s", "eltwise_param { operation: SUM coeff: 1 coeff: -2 }"), 3),
    "sum with itself": (conv("a", "x") + layer("Eltwise", "s", "a a", "s", SUM), 2),
    "concat": (conv("a", "x", 5) + layer("ReLU", "r", "a", "a") + conv("b", "x", 3) + layer(
        "Concat", "c", "a b", "c") + layer("ReLU", "q", "c", "c") + conv("d", "c"), 5),
    "concat of what is read later": (conv("a", "x", 5) + conv("b", "x", 3) + layer("Concat", "c", "a b", "c") + layer(
        "ReLU", "q", "c", "c") + conv("d", "a", 8) + layer("Eltwise", "s", "d c", "s", SUM), 5),
    "concat twice": (conv("a", "x", 5) + conv("b", "x", 3) + layer("Concat", "c", "a b a", "c") + layer(
        "Concat", "d", "c b", "d") + conv("e", "d"), 5),
    "concat of a concat": (conv("a", "x", 5) + conv("b", "x", 3) + layer("Concat", "c", "b a", "c") + conv(
        "d", "x") + layer("Concat", "e", "d c", "e") + conv("f", "e"), 6),
    "split": (conv("a", "x") + layer("Split", "s", "a", "s t") + layer("ReLU", "r", "s", "s") + layer(
        "Eltwise", "e", "s t", "e", SUM), 4),
    "split for reading": (conv("a", "x") + layer("Split", "s", "a", "s t") + conv("b", "s") + layer(
        "Eltwise", "e", "b t", "e", SUM), 3),
    "flatten": (conv("a", "x") + layer("Flatten", "f", "a", "f") + layer("ReLU", "r", "f", "f"), 3),
    "dropout": (conv("a", "x") + layer("Dropout", "o", "a", "o") + layer("ReLU", "r", "o", "r"), 1),
}


def pair(body: str, shape: str = "", **options: object) -> tuple[Net, Net, np.ndarray]:
    text = (HEAD.replace("dim: 1 dim: 6", shape) if shape else HEAD) + body
    whole, lean = Net(text, TEST, seed=5), Net(text, TEST, seed=5, keep=[], **options)  # type: ignore[arg-type]
    for net in (whole, lean):
        if "norm" in net.params:
            for i, values in enumerate((np.linspace(-2, 3, 6), np.linspace(0.5, 9, 6), 2.0)):
                net.params["norm"][i].data[...] = values
    return whole, lean, np.random.default_rng(3).standard_normal(whole.blobs["x"].shape).astype(np.float32)


def equal(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, atol=3e-6 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_lean_net_when_compared_with_one_that_keeps_all_then_equal(name: str, images: int) -> None:
    body, steps = NETS[name]
    whole, lean, x = pair(body, f"dim: {images} dim: 6")
    wanted = {name: value.copy() for name, value in whole.forward(x=x).items()}
    equal(lean.forward(x=x), wanted)
    assert len(lean._execution._steps) == steps + 1  # the Input
    equal(lean.forward(x=x), wanted)
    lean.watch(forward=lambda node: None)  # layer by layer
    equal(lean.forward(x=x), wanted)


@pytest.mark.parametrize("name", NETS)
def test_lean_net_when_its_input_changes_shape_then_equal(name: str) -> None:
    whole, lean, x = pair(NETS[name][0])
    lean.forward(x=x)
    x = np.random.default_rng(4).standard_normal((2, 6, 11, 20)).astype(np.float32)
    for net in (whole, lean):
        net.blobs["x"].reshape(*x.shape)
    equal(lean.forward(x=x), whole.forward(x=x))


def test_blob_that_is_kept_when_layers_are_folded_then_what_its_layer_wrote() -> None:
    body = conv("a", "x") + NORM + SCALE + PRELU + conv("b", "p")
    text = HEAD + body
    whole = Net(text, TEST, seed=5)
    for kept in (["a"], ["n"], ["p"], ["a", "p"]):
        lean = Net(text, TEST, seed=5, keep=kept)
        x = np.random.default_rng(3).standard_normal((1, 6, 9, 17)).astype(np.float32)
        equal(lean.forward(x=x), whole.forward(x=x))
        equal({name: lean.blobs[name].data for name in kept}, {name: whole.blobs[name].data for name in kept})


@pytest.mark.parametrize(("name", "index"), [("a", 0), ("a", 1), ("norm", 0), ("norm", 1), ("norm", 2), ("scale", 0),
                                             ("scale", 1), ("prelu", 0)])
def test_parameter_when_a_user_writes_it_then_the_folded_weights_follow(name: str, index: int) -> None:
    whole, lean, x = pair(NETS["norm"][0])
    before = {name: value.copy() for name, value in lean.forward(x=x).items()}
    for net in (whole, lean):
        net.params[name][index].data[...] *= 1.5
    wanted = whole.forward(x=x)
    assert np.abs(wanted["p"] - before["p"]).max() > 1e-3
    equal(lean.forward(x=x), wanted)


def test_weights_when_two_layers_share_them_then_each_has_its_own_norm() -> None:
    shared = 'param { name: "w" } param { name: "b" }'
    body = (conv("a", "x").replace("convolution_param", f"{shared} convolution_param") + BN +
            conv("d", "x").replace("convolution_param", f"{shared} convolution_param") +
            BN.replace('"bn"', '"bn2"').replace('"a"', '"d"').replace('"n"', '"m"') +
            layer("Concat", "c", "n m", "c"))
    whole, lean, x = pair(body)
    for _ in range(2):
        equal(lean.forward(x=x), whole.forward(x=x))


def test_batch_statistics_when_they_are_used_then_nothing_is_folded() -> None:
    body = conv("a", "x") + NORM.replace("eps: 1e-3", "use_global_stats: false") + SCALE
    whole, lean, x = pair(body)
    equal(lean.forward(x=x), whole.forward(x=x))
    assert len(lean._execution._steps) == 4


def test_activation_when_values_are_nan_then_they_stay() -> None:
    for body in (NETS["activations"][0], NETS["sum of pools"][0], NETS["residual"][0]):
        whole, lean, x = pair(body)
        x[0, 2, 4, 7] = np.nan
        got, wanted = lean.forward(x=x), whole.forward(x=x)
        for name, value in wanted.items():
            assert np.isnan(value).any()
            np.testing.assert_array_equal(np.isnan(got[name]), np.isnan(value))


def test_concat_when_nobody_else_reads_then_nothing_is_copied() -> None:
    _, lean, x = pair(NETS["concat"][0])
    lean.forward(x=x)
    plan, values = lean._execution.plan, {value.name: value.storage for value in lean.graph.values}
    assert plan.offsets[values["a"]] == plan.offsets[values["c"]]
    assert plan.offsets[values["b"]] == plan.offsets[values["c"]] + 5 * 9 * 17 * 4
    assert plan.arena_bytes < 15 * 9 * 17 * 4 + 2 * 64
