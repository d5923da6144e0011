"""A net of this package as an ONNX model with the same weights, for peers that read ONNX. No script: cpu.py uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["onnx_bytes"]

OPSET = 13


class _Writer:
    """Collects nodes and constants."""

    def __init__(self, net: Any) -> None:
        self.net, self.nodes, self.constants, self.names = net, [], [], {}
        self.node: Any = None
        self.layer: Any = None
        self.blobs: list[Any] = []

    def shape(self, value: int) -> tuple[int, ...]:
        return self.net.graph.values[value].shape

    def constant(self, array: Any, name: str) -> str:
        from onnx import numpy_helper

        full = f"{self.node.index}_{name}"
        self.constants.append(numpy_helper.from_array(array, full))
        return full

    def add(self, kind: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        from onnx import helper

        names = [f"{self.node.index}_{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names

    def param(self, i: int, shape: tuple[int, ...] | None = None) -> str:
        data = self.blobs[i].data
        return self.constant(data if shape is None else data.reshape(shape), f"p{i}")


def _convolution(w: _Writer, below: list[str]) -> list[str]:
    layer = w.layer
    windows = layer._split(w.shape(w.node.bottoms[0]))[2]
    inputs = [below[0], *(w.param(i) for i in range(len(w.blobs)))]
    kind = "ConvTranspose" if w.node.spec.type == "Deconvolution" else "Conv"
    return w.add(kind, inputs, group=layer.p.group, kernel_shape=[v.kernel for v in windows],
                 strides=[v.stride for v in windows], pads=[v.pad for v in windows] * 2,
                 dilations=[v.hole for v in windows])


def _pooling(w: _Writer, below: list[str]) -> list[str]:
    from atrouscaffe.layers.windows import pool_windows

    shape, out = w.shape(w.node.bottoms[0]), w.shape(w.node.tops[0])
    windows = pool_windows(w.layer.p, shape)
    ends = [max(0, (o - 1) * v.stride + v.kernel - n - v.pad) for v, n, o in zip(windows, shape[2:], out[2:])]
    common = {"kernel_shape": [v.kernel for v in windows], "strides": [v.stride for v in windows],
              "pads": [v.pad for v in windows] + ends}
    if w.layer.p.pool == "AVE":
        return w.add("AveragePool", below, count_include_pad=1, **common)
    return w.add("MaxPool", below, len(w.node.tops), **common)


def _batch_norm(w: _Writer, below: list[str]) -> list[str]:
    import numpy as np

    mean, variance, factor = (blob.data.ravel() for blob in w.blobs)
    correction = 0 if factor[0] == 0 else 1 / factor[0]
    ones = np.ones_like(mean)
    return w.add("BatchNormalization", [*below, w.constant(ones, "ones"), w.constant(ones * 0, "zeros"),
                                        w.constant(mean * correction, "mean"),
                                        w.constant(variance * correction, "variance")], epsilon=w.layer.p.eps)


def _scale(w: _Writer, below: list[str]) -> list[str]:
    product = w.add("Mul", [below[0], w.param(0, (-1, 1, 1))])
    return w.add("Add", [product[0], w.param(1, (-1, 1, 1))]) if len(w.blobs) > 1 else product


def _power(w: _Writer, below: list[str]) -> list[str]:
    import numpy as np

    p = w.layer.p
    scaled = w.add("Mul", [below[0], w.constant(np.float32(p.scale), "scale")])
    return w.add("Add", [scaled[0], w.constant(np.float32(p.shift), "shift")])


def _relu6(w: _Writer, below: list[str]) -> list[str]:
    import numpy as np

    return w.add("Clip", [below[0], w.constant(np.float32(0), "low"), w.constant(np.float32(6), "high")])


def _interp(w: _Writer, below: list[str]) -> list[str]:
    import numpy as np

    size = w.constant(np.array(w.shape(w.node.tops[0]), np.int64), "size")
    return w.add("Resize", [below[0], "", "", size], mode="linear", coordinate_transformation_mode="align_corners")


def _upsample(w: _Writer, below: list[str]) -> list[str]:
    """Caffe's masks count inside a plane; `MaxPool` of ONNX counts through the whole tensor, as `MaxUnpool` does."""
    import numpy as np

    size = w.constant(np.array(w.shape(w.node.tops[0]), np.int64), "size")
    return w.add("MaxUnpool", [*below, size], kernel_shape=[2, 2], strides=[2, 2])


WRITERS: dict[str, Callable[[_Writer, list[str]], list[str]]] = {
    "Convolution": _convolution, "Deconvolution": _convolution, "Pooling": _pooling, "BatchNorm": _batch_norm,
    "Scale": _scale, "BN": _scale, "Power": _power, "ReLU6": _relu6, "Interp": _interp, "Upsample": _upsample,
    "ReLU": lambda w, below: w.add("LeakyRelu", below, alpha=w.layer.p.negative_slope) if w.layer.p.negative_slope
    else w.add("Relu", below),
    "PReLU": lambda w, below: w.add("PRelu", [below[0], w.param(0, (-1, 1, 1))]),
    "Eltwise": lambda w, below: w.add("Sum", below),
    "Concat": lambda w, below: w.add("Concat", below, axis=1),
    "Softmax": lambda w, below: w.add("Softmax", below, axis=1),
    "Dropout": lambda w, below: below,
}


def onnx_bytes(net: Any) -> bytes:
    """Return a net, as far as its first output, as an ONNX model.

    Raises
    ------
    SystemExit
        A layer of a type that is not in `WRITERS`.
    """
    from onnx import TensorProto, helper

    w = _Writer(net)
    for node, params in zip(net.graph.nodes, net._execution.node_params):
        w.node, w.layer, w.blobs = node, node.layer, params
        if not node.bottoms:
            w.names |= {value: net.graph.values[value].name for value in node.tops}
            continue
        if node.spec.type not in WRITERS:
            raise SystemExit(f"layer {node.spec.name}: type {node.spec.type} is not written to ONNX by this script")
        tops = WRITERS[node.spec.type](w, [w.names[value] for value in node.bottoms])
        w.names |= dict(zip(node.tops, tops))
    first, last = net.inputs[0], net.outputs[0]
    graph = helper.make_graph(
        w.nodes, "net", [helper.make_tensor_value_info(first, TensorProto.FLOAT, net.blobs[first].shape)],
        [helper.make_tensor_value_info(w.names[net.graph.latest(last)], TensorProto.FLOAT, net.blobs[last].shape)],
        w.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8).SerializeToString()
