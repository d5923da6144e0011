"""A net of this package as a PyTorch module with the same weights, for comparison. No script: gpu.py uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["build"]


def build(net: Any, upto: str, train: bool = False) -> Any:
    """Return a ``torch.nn.Module`` that maps the net's first input blob to its blob `upto`.

    Parameters
    ----------
    net : atrouscaffe.Net
        Of layers Convolution, Pooling, ReLU, Dropout, Eltwise (sum), Concat and Interp as far as `upto` needs them.
    upto : str
    train : bool
        Let dropout drop.

    Raises
    ------
    SystemExit
        A layer of another type.
    """
    import torch

    class TorchNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = torch.nn.ModuleDict()
            self.steps: list[tuple[Callable[..., Any], list[int], int]] = []
            for node in needed_nodes(net, upto):
                if node.spec.type == "Convolution":
                    self.convolutions[node.spec.name] = _convolution(torch, net, node)
                    step: Callable[..., Any] = self.convolutions[node.spec.name]
                else:
                    step = _step(torch.nn.functional, net, node, train)
                self.steps.append((step, list(node.bottoms), node.tops[0]))
            self.first = self.steps[0][1][0]

        def forward(self, x: Any) -> Any:
            values = {self.first: x}
            for step, bottoms, top in self.steps:
                values[top] = step(*(values[bottom] for bottom in bottoms))
            return values[self.steps[-1][2]]

    return TorchNet()


def needed_nodes(net: Any, upto: str) -> list[Any]:
    """Return the layers between the first input and the blob `upto`, in order, inputs left out."""
    wanted, kept = {net.graph.latest(upto)}, []
    for node in reversed(net.graph.nodes):
        if wanted.intersection(node.tops) and node.bottoms:
            wanted.update(node.bottoms)
            kept.append(node)
    return kept[::-1]


def _convolution(torch: Any, net: Any, node: Any) -> Any:
    from atrouscaffe.layers.windows import conv_windows

    option, (weight, *bias) = node.spec.fields.convolution_param, net.params[node.spec.name]
    windows = conv_windows(option, 2)
    module = torch.nn.Conv2d(
        weight.shape[1] * option.group, weight.shape[0], [w.kernel for w in windows], [w.stride for w in windows],
        [w.pad for w in windows], [w.hole for w in windows], option.group, bool(bias))
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight.data.copy()))
        if bias:
            module.bias.copy_(torch.from_numpy(bias[0].data.reshape(-1).copy()))
    return module


def _step(functional: Any, net: Any, node: Any, train: bool) -> Callable[..., Any]:
    """Return a layer without parameters as a function of its bottoms."""
    from atrouscaffe.layers.windows import pool_windows

    kind, fields = node.spec.type, node.spec.fields
    if kind == "Pooling":
        # Caffe rounds sizes up and lets the mean count what was padded: so do these options
        windows = pool_windows(fields.pooling_param, net.graph.values[node.bottoms[0]].shape)
        sizes = ([w.kernel for w in windows], [w.stride for w in windows], [w.pad for w in windows])
        if fields.pooling_param.pool == "AVE":
            return lambda x: functional.avg_pool2d(x, *sizes, ceil_mode=True, count_include_pad=True)
        return lambda x: functional.max_pool2d(x, *sizes, ceil_mode=True)
    if kind == "ReLU":
        return lambda x: functional.relu(x, inplace=True)  # nobody reads what Caffe works on in place
    if kind == "Dropout":
        ratio = fields.dropout_param.dropout_ratio
        return lambda x: functional.dropout(x, ratio, training=train)
    if kind == "Eltwise" and fields.eltwise_param.operation == "SUM" and not fields.eltwise_param.coeff:
        return lambda *parts: sum(parts[1:], parts[0])
    if kind == "Concat":
        import torch

        return lambda *parts: torch.cat(parts, 1)
    if kind == "Interp":
        size = net.graph.values[node.tops[0]].shape[2:]
        return lambda x: functional.interpolate(x, size, mode="bilinear", align_corners=True)
    raise SystemExit(f"layer {node.spec.name}: type {kind} is not built in PyTorch by this script")
