"""Layers whose passes never wait for the device, so that it always has work ahead: they can be recorded.

The forward pass of a loss looks at its labels, so only its backward pass is here.
"""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.runtime.cuda import Recording
from tests.check import make_net, tops

pytestmark = pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
DRAW = np.random.default_rng(4)
X, Z = DRAW.standard_normal((2, 2, 4, 9, 11)).astype(np.float32)
LABELS = DRAW.integers(0, 4, (2, 1, 9, 11)).astype(np.float32)
FLAT, FLAT2 = X.reshape(2, -1, 1, 1), Z.reshape(2, -1, 1, 1)
ONE = {"x": X}


def layer(kind: str, options: str = "", bottoms: str = "x", named: str = "y") -> str:
    words = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in named.split()]
    return f'layer {{ name: "l" type: "{kind}" {" ".join(words)} {options} }}'


def conv(options: str) -> str:
    return f"convolution_param {{ {options} }}"


BOTH = {
    "convolution": (layer("Convolution", conv("num_output: 6 kernel_size: 3 pad: 2 dilation: 2")), ONE),
    "depthwise": (layer("Convolution", conv("num_output: 4 kernel_size: 3 pad: 1 group: 4")), ONE),
    "deconvolution": (layer("Deconvolution", conv("num_output: 5 kernel_size: 4 stride: 2")), ONE),
    "depthwise deconvolution": (layer("Deconvolution", conv("num_output: 4 kernel_size: 4 stride: 2 group: 4")), ONE),
    "im2col": (layer("Im2col", conv("kernel_size: 3 dilation: 2 stride: 2")), ONE),
    "max": (layer("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", "x", "y mask"), ONE),
    "average": (layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"), ONE),
    "global": (layer("Pooling", "pooling_param { pool: AVE global_pooling: true }"), ONE),
    "stochastic": (layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }"), {"x": abs(X)}),
    "interp": (layer("Interp", "interp_param { zoom_factor: 3 pad_beg: -1 }"), ONE),
    "softmax": (layer("Softmax"), ONE), "softmax of rows": (layer("Softmax"), {"x": FLAT}),
    "lrn": (layer("LRN"), ONE),
    "lrn within": (layer("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }"), ONE),
    "crop": (layer("Crop", "crop_param { offset: 2 }", "x ref"), {"x": X, "ref": X[:, :, :5, :6]}),
    "padding": (layer("Padding", "padding_param { pad_beg: 2 pad_end: 1 }"), ONE),
}
FORWARD = BOTH | {
    "argmax": (layer("ArgMax", "argmax_param { axis: 1 top_k: 2 }"), ONE),
    "argmax values": (layer("ArgMax", "argmax_param { axis: 1 out_max_val: true }"), ONE),
    "relative error": (layer("RelativeError", "", "x z"), {"x": X, "z": Z}),
    "contrastive": (layer("ContrastiveLoss", "", "x z s"), {"x": FLAT, "z": FLAT2, "s": np.array([0, 1.0])}),
    "sigmoid cross entropy": (layer("SigmoidCrossEntropyLoss", "", "x z"), {"x": X, "z": abs(Z) % 1}),
    "euclidean": (layer("EuclideanLoss", "", "x z"), {"x": X, "z": Z}),
    "soft target": (layer("SoftTargetLoss", "", "x z"), {"x": X, "z": Z}),
}
BACKWARD = BOTH | {name: FORWARD[name] for name in ("contrastive", "sigmoid cross entropy", "euclidean",
                                                    "soft target")} | {
    "softmax loss": (layer("SoftmaxWithLoss", "loss_param { ignore_label: 3 }", "x t"), {"x": X, "t": LABELS}),
    "softmax loss of rows": (layer("SoftmaxWithLoss", "", "x t"), {"x": FLAT, "t": np.array([3.0, 1.0])}),
    "multinomial": (layer("MultinomialLogisticLoss", "", "x t"), {"x": abs(FLAT), "t": np.array([3.0, 1.0])}),
    "infogain": (layer("InfogainLoss", "", "x t h"), {"x": X, "t": LABELS, "h": np.ones((4, 4))}),
    "upsample": (layer("Upsample", "upsample_param { scale: 2 }", "x m"), {"x": X, "m": abs(X) * 10 // 1}),
    "domain transform": (layer("DomainTransform", "", "x e s"),
                         {"x": X, "e": abs(Z[:, :1]), "s": np.array([[9.0, 11], [5, 7]])}),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_is_recorded_and_takes_new_data(name, device):
    text, bottoms = FORWARD[name]
    net = make_net(text, bottoms, device=device)
    net.run()
    recorded = net.record()
    for bottom, values in bottoms.items():
        net.blobs[bottom].data[...] = values[::-1]
    wanted = {output: array.copy() for output, array in net.forward().items()}
    for output in net.outputs:
        net.blobs[output].data[...] = 77
    recorded.replay()
    for output, array in wanted.items():
        np.testing.assert_array_equal(net.blobs[output].data, array)


@pytest.mark.parametrize("name", BACKWARD)
def test_backward_is_recorded(name, device):
    text, bottoms = BACKWARD[name]
    net = make_net(text, bottoms, device=device)
    net.forward()
    wanted = net.backward(**tops(net))["x"].copy()
    last = len(net.graph.nodes) - 1
    recorded = Recording(net.backend, lambda: net._execution.backward(last, 0))
    net.blobs["x"].diff[...] = 77
    assert (net.blobs["x"].grad == 77).all()  # the device has taken them over
    recorded.replay()
    np.testing.assert_array_equal(net.blobs["x"].diff, wanted)
    assert np.isfinite(wanted).all() and wanted.any()
