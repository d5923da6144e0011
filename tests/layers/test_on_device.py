"""Layers on a device against the same layers on the CPU: outputs, gradients, what forward changes.

What the CPU gives is compared with references in each layer's own tests; here it is the reference.
"""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.runtime.backend import on_device
from tests.layers import test_activations
from tests.layers.one_layer import small_net

DEVICES = pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
"""Relative to the largest value: sums are taken in another order, functions are another library's."""


def maps(*shape: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def labels(*shape: int, classes: int = 4, seed: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape).astype(float)


def layer(type_name: str, options: str = "", bottoms: str = "x", tops: str = "y") -> str:
    words = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
    return f'layer {{ name: "l" type: "{type_name}" {" ".join(words)} {options} }}\n'


IN_PLACE = 'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1.5 } }\n'
X, SMALL, LISTS = maps(2, 3, 5, 7), maps(2, 6), np.array([[0.0, 2, -1], [1, -1, -1]]).reshape(2, 3, 1, 1)
TWO, THREE = {"x": X, "z": maps(2, 3, 5, 7, seed=8)}, {"x": X, "z": X.copy(), "w": maps(2, 3, 5, 7, seed=9)}
MAPS = {"x": X, "z": labels(2, 1, 5, 7, classes=3)}
CASES = {  # name: (layers, inputs, phase)
    "relu in place": (IN_PLACE + layer("ReLU", "", "y"), {"x": X}, TEST),
    "threshold": (layer("Threshold", "threshold_param { threshold: 0.25 }"), {"x": X}, TEST),
    "prelu": (layer("PReLU"), {"x": X}, TEST),
    "prelu shared in place": (IN_PLACE + layer("PReLU", "prelu_param { channel_shared: true }", "y"), {"x": X}, TEST),
    "dropout in TEST": (layer("Dropout"), {"x": X}, TEST),
    "sum": (layer("Eltwise", "", "x z w"), THREE, TEST),
    "weighted sum": (layer("Eltwise", "eltwise_param { coeff: 2 coeff: -0.5 coeff: 3 }", "x z w"), THREE, TEST),
    "product": (layer("Eltwise", "eltwise_param { operation: PROD }", "x z w"), THREE, TEST),
    "product by division": (layer("Eltwise", "eltwise_param { operation: PROD stable_prod_grad: false }", "x z"),
                            TWO, TEST),
    "maximum with ties": (layer("Eltwise", "eltwise_param { operation: MAX }", "x z w"), THREE, TEST),
    "concat": (layer("Concat", "", "x z w"), THREE | {"z": maps(2, 5, 5, 7)}, TEST),
    "concat rows": (layer("Concat", "concat_param { axis: -2 }", "x z"), {"x": X, "z": maps(2, 3, 4, 7)}, TEST),
    "slice": (layer("Slice", "slice_param { slice_point: 1 }", "x", "y z"), {"x": X}, TEST),
    "split": (layer("Split", "", "x", "y z w"), {"x": X}, TEST),
    "tile": (layer("Tile", "tile_param { axis: 2 tiles: 3 }"), {"x": X}, TEST),
    "flatten": (layer("Flatten", "flatten_param { axis: 2 }"), {"x": X}, TEST),
    "reshape": (layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 15 } }"), {"x": X}, TEST),
    "permute": (layer("Permute", "permute_param { order: 0 order: 3 order: 1 }"), {"x": X}, TEST),
    **{f"reduction {kind}": (layer("Reduction", f"reduction_param {{ operation: {kind} axis: 2 coeff: 0.5 }}"),
                             {"x": X}, TEST) for kind in ("SUM", "ASUM", "SUMSQ", "MEAN")},
    "silence": (layer("Power", "power_param { power: 2 }") + 'layer { name: "s" type: "Silence" bottom: "x" }',
                {"x": X}, TEST),
    "filter": (layer("Filter", "", "x s"), {"x": X, "s": np.array([0.0, 1])}, TEST),
    "filter all out": (layer("Filter", "", "x s"), {"x": X, "s": np.zeros(2)}, TEST),
    "batch reindex": (layer("BatchReindex", "", "x i"), {"x": X, "i": np.array([1.0, 0, 1, 1, 1])}, TEST),
    "batch norm in TRAIN": (layer("BatchNorm"), {"x": X}, TRAIN),
    "batch norm in TEST": (layer("BatchNorm"), {"x": X}, TEST),
    "batch norm in place": (IN_PLACE + layer("BatchNorm", "", "y"), {"x": X}, TRAIN),
    "batch norm of rows": (layer("BatchNorm"), {"x": maps(70, 3)}, TRAIN),
    "batch norm, global and moved": (layer("BatchNorm", "batch_norm_param { use_global_stats: true "
                                           "update_global_stats: true }"), {"x": X}, TRAIN),
    "bn": (layer("BN"), {"x": X}, TRAIN),
    "bn by its blobs": (layer("BN", "bn_param { bn_mode: INFERENCE }"), {"x": X}, TRAIN),
    "scale": (layer("Scale", "scale_param { bias_term: true }"), {"x": X}, TEST),
    "scale by one number in place": (IN_PLACE + layer("Scale", "scale_param { num_axes: 0 }", "y"), {"x": X}, TEST),
    "scale by a bottom": (layer("Scale", "scale_param { axis: 0 }", "x z"), {"x": X, "z": maps(2, 3)}, TEST),
    "scale by every place": (layer("Scale", "scale_param { axis: 0 num_axes: -1 }"), {"x": X}, TEST),
    "bias": (layer("Bias"), {"x": X}, TEST),
    "bias from a bottom": (layer("Bias", "bias_param { axis: 2 }", "x z"), {"x": X, "z": maps(5, 7)}, TEST),
    "mvn": (layer("MVN"), {"x": X}, TEST),
    "mvn across channels": (layer("MVN", "mvn_param { across_channels: true }"), {"x": X}, TEST),
    "mvn without variance": (layer("MVN", "mvn_param { normalize_variance: false }"), {"x": X}, TEST),
    "inner product": (layer("InnerProduct", "inner_product_param { num_output: 4 }"), {"x": X}, TEST),
    "inner product, turned": (layer("InnerProduct", "inner_product_param { num_output: 4 transpose: true }"),
                              {"x": X}, TEST),
    "inner product of pixels": (layer("InnerProduct", "inner_product_param { num_output: 4 axis: -1 bias_term: 0 }"),
                                {"x": X}, TEST),
    "inner product with one output": (layer("InnerProduct", "inner_product_param { num_output: 1 transpose: true }"),
                                      {"x": SMALL}, TEST),
    **{f"spp {kind}": (layer("SPP", f"spp_param {{ pyramid_height: 2 pool: {kind} }}"), {"x": X}, TEST)
       for kind in ("MAX", "AVE")},
    "embed": (layer("Embed", "embed_param { num_output: 5 input_dim: 4 }"), {"x": labels(2, 7)}, TEST),
    "one hot": (layer("OneHot", "onehot_param { num_labels: 4 }"), {"x": labels(2, 3, 5, 7)}, TEST),
    "histogram": (layer("Histogram", "histogram_param { num_labels: 4 ignore_label: 2 }"),
                  {"x": labels(2, 1, 5, 7)}, TEST),
    "dominant channel": (layer("DominantChannel", "dominant_channel_param { top_k: 2 }"), {"x": X}, TEST),
    "ignore overlay": (layer("IgnoreOverlay", "ignore_overlay_param { ignore_label: 2 }", "x z"),
                       {"x": labels(2, 1, 5, 7), "z": labels(2, 1, 5, 7, seed=7)}, TEST),
    "unique label": (layer("UniqueLabel", "unique_label_param { max_labels: 6 }"), {"x": labels(2, 1, 5, 7)}, TEST),
    "censor label": (layer("CensorLabel", "censor_label_param { ignore_label: 255 }", "x z"),
                     {"x": labels(2, 1, 5, 7), "z": LISTS}, TEST),
    "bias channel by lists": (layer("BiasChannel", "bias_channel_param { fg_bias: 3 bg_bias: 1.5 label_type: IMAGE }",
                                    "x z"), {"x": X, "z": LISTS}, TEST),
    "bias channel by maps": (layer("BiasChannel", "bias_channel_param { fg_bias: 3 bg_bias: 1.5 label_type: PIXEL "
                                   "ignore_label: 1 }", "x z"), MAPS, TEST),
    "bias channel by maps, no background": (layer("BiasChannel", "bias_channel_param { label_type: PIXEL }", "x z"),
                                            MAPS, TEST),
    "adaptive bias channel": (layer("AdaptiveBiasChannel", "adaptive_bias_channel_param { num_iter: 3 }", "x z"),
                              {"x": X, "z": LISTS}, TEST),
    "gain channel": (layer("GainChannel", 'gain_channel_param { gain_filler { type: "uniform" min: 0.5 max: 2 } '
                           "num_output_nz: 2 norm_mean: true drift: 0.1 stdev: 0.2 }"), {"x": X}, TRAIN),
    "channel aggregator": (layer("ChannelAggregator", 'channel_aggregator_param { label_map_file: "joined.txt" }'),
                           {"x": X}, TEST),
    "spatial product": (layer("SpatialProduct", "", "x z"), {"x": X, "z": maps(2, 1, 5, 7)}, TEST),
    "parameter": (layer("Parameter", "parameter_param { shape { dim: 3 dim: 5 } }", "") +
                  'layer { name: "e" type: "Eltwise" bottom: "y" bottom: "x" top: "z" }', {"x": maps(3, 5)}, TEST),
    "dummy data": ('layer { name: "d" type: "DummyData" top: "z" top: "w" dummy_data_param { data_filler { value: 2 } '
                   'data_filler { type: "gaussian" } shape { dim: 2 dim: 6 } } }\n'
                   + layer("Eltwise", "", "x z w"), {"x": SMALL}, TEST),
    "several readers": (layer("Power", "power_param { scale: 2 }", "x", "h") + layer("Eltwise", "", "h x h", "y")
                        .replace('"l"', '"m"') + layer("TanH", "", "h", "z").replace('"l"', '"t"'), {"x": X}, TEST),
}
V1 = {"one hot", "histogram", "dominant channel", "ignore overlay", "unique label", "censor label", "gain channel",
      "channel aggregator"}
ENDS = ("OneHot", "Histogram", "DominantChannel", "IgnoreOverlay", "UniqueLabel", "CensorLabel", "Threshold",
        "AdaptiveBiasChannel", "Embed")
"""Types that no gradient passes."""


def pass_through(name: str, device: str, dtype: type) -> dict[str, np.ndarray]:
    """Return everything that two passes forward and one backward leave behind."""
    layers, bottoms, phase = CASES[name]
    net = small_net(layers, bottoms, phase=phase, dtype=dtype, device=device, seed=3,
                    dialect="v1" if name in V1 else "bvlc", force=not any(f'"{end}"' in layers for end in ENDS))
    return run(net)


def run(net: Net) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(12)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] += 0.25 * draw.standard_normal(blob.shape) ** 2
    net.forward()
    found = {f"out {name}": array.copy() for name, array in net.forward().items()}
    gradients = {name: draw.standard_normal(net.blobs[name].shape) for name in net.outputs}
    if any(node.backward for node in net.graph.nodes):
        net.backward(**gradients)
        net.backward(**gradients)
        found |= {f"diff {name}": net.blobs[name].host_grad().copy() for name in net.inputs}
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            found |= {f"param {name} {i}": blob.host().copy(), f"gradient {name} {i}": blob.host_grad().copy()}
    assert on_device(net.blobs[net.outputs[0]].array) == (net.backend.name != "cpu")
    return found


def compare(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for what, array in expected.items():
        assert found[what].shape == array.shape
        scale = max(1.0, float(np.abs(array).max(initial=0)))
        np.testing.assert_allclose(found[what], array, rtol=0, atol=tolerance * scale, err_msg=what)


@DEVICES
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_layer_gives_what_it_gives_on_the_cpu(name, dtype, device, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "joined.txt").write_text("0 1\n2\n2 0 0\n")
    compare(pass_through(name, device, dtype), pass_through(name, "cpu", dtype), TOLERANCE[dtype])


@DEVICES
@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("name", test_activations.CASES)
def test_activation_gives_what_it_gives_on_the_cpu(name, in_place, device, rng):
    type_name, options, _, shift = test_activations.CASES[name]
    x = test_activations.values(rng, shift)
    for dtype, tolerance in TOLERANCE.items():
        there, here = (run(small_net(test_activations.body(type_name, options, in_place), {"x": x}, dtype=dtype,
                                     device=where)) for where in (device, "cpu"))
        compare(there, here, tolerance)
