"""``caffe.draw``: a net as a drawing. See `atrouscaffe.pipeline.netgraph` for what draws it."""

from __future__ import annotations

from typing import Any

from atrouscaffe.errors import ArgumentError, GraphError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.pipeline.netgraph import Dot, Edge, Node
from atrouscaffe.pycaffe.proto import caffe_pb2

__all__ = ["BLOB_STYLE", "LAYER_STYLE_DEFAULT", "NEURON_LAYER_STYLE", "choose_color_by_layertype", "draw_net",
           "draw_net_to_file", "get_edge_label", "get_layer_label", "get_layer_lr_mult", "get_pooling_types_dict",
           "get_pydot_graph"]

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}
_COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")


def get_pooling_types_dict() -> dict[int, str]:
    """Return number → name of the ways to pool."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: Any) -> str:
    """Return what stands at the arrow from a layer to its top: batch size or number of outputs."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return '""'


def get_layer_lr_mult(layer: Any) -> tuple[float, float]:
    """Return the learning-rate multipliers of weights and biases.

    Raises
    ------
    ValueError
        The layer has no weights and biases, or more than two ``param`` messages.
    """
    if layer.type not in _LEARNING:
        raise ArgumentError(f"{layer.type} layers do not have a learning rate multiplier")
    rates: list[float] = [param.lr_mult for param in layer.param]
    if len(rates) > 2:
        raise ArgumentError(f"layer {layer.name!r}: expected at most two param messages, got {len(rates)}")
    weights, biases, *_ = [*rates, 1.0, 1.0]
    return weights, biases


def get_layer_label(layer: Any, rankdir: str, display_lrm: bool = False) -> str:
    """Return a layer's label: name, type, window, and with `display_lrm` its learning-rate multipliers."""
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    kind = layer.type
    if layer.type == "Pooling":
        kind = f"{layer.type} {get_pooling_types_dict()[layer.pooling_param.pool]}"
    lines = [layer.name, f"({kind})"]
    window: tuple[Any, ...] | None = None
    if layer.type == "Pooling":
        param = layer.pooling_param
        window = (param.kernel_size, param.stride, param.pad)
    elif layer.type in ("Convolution", "Deconvolution"):
        param = layer.convolution_param
        window = tuple(values[0] if len(values) else default for values, default in
                       ((param.kernel_size, 1), (param.stride, 1), (param.pad, 0)))
    if window is not None:
        names = ("kernel size", "stride", "pad")
        lines.append(separator.join(f"{name}: {value}" for name, value in zip(names, window)))
    if display_lrm and layer.type in _LEARNING and any(get_layer_lr_mult(layer)):
        lines.append("lr mult: {:.1f}, {:.1f}".format(*get_layer_lr_mult(layer)))
    return f'"{separator.join(lines)}"'


def choose_color_by_layertype(layertype: str) -> str:
    """Return a layer type's colour."""
    return _COLORS.get(layertype, "#6495ED")


def _wanted(layer: Any, phase: int | None) -> bool:
    if phase is None:
        return True
    if len(layer.include) and len(layer.exclude):
        raise GraphError(f"layer {layer.name} has both include and exclude specified.")
    if len(layer.include):
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


def _modern(net: Any) -> Any:
    """Return a net of the older kind (``layers {}``) in today's form."""
    if len(net.layer) or not len(net.layers):
        return net
    from google.protobuf import text_format

    from atrouscaffe.formats.prototxt import parse_net, write_net

    return text_format.Parse(write_net(parse_net(text_format.MessageToString(net)), "bvlc"), caffe_pb2.NetParameter())


def get_pydot_graph(caffe_net: Any, rankdir: str, label_edges: bool = True, phase: int | None = None,
                    display_lrm: bool = False) -> Dot:
    """Return a net as a graph: a node for each layer and blob.

    Parameters
    ----------
    caffe_net : NetParameter
    rankdir : {"LR", "TB", "BT"}
    label_edges : bool
    phase : int, optional
        Only layers of this phase.
    display_lrm : bool
        Show learning-rate multipliers.
    """
    caffe_net = _modern(caffe_net)
    graph = Dot(caffe_net.name or "Net", rankdir)
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str, str]] = []
    for layer in caffe_net.layer:
        if not _wanted(layer, phase):
            continue
        name = f"{layer.name}_{layer.type}"
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        style = NEURON_LAYER_STYLE if in_place else {**LAYER_STYLE_DEFAULT,
                                                     "fillcolor": choose_color_by_layertype(layer.type)}
        nodes[name] = Node(get_layer_label(layer, rankdir, display_lrm), dict(style))
        for bottom in layer.bottom:
            nodes.setdefault(f"{bottom}_blob", Node(bottom)).attributes.update(BLOB_STYLE)
            edges.append((f"{bottom}_blob", name, '""'))
        for top in layer.top:
            nodes.setdefault(f"{top}_blob", Node(top))
            edges.append((name, f"{top}_blob", get_edge_label(layer) if label_edges else '""'))
    for node in nodes.values():
        graph.add_node(node)
    for tail, head, label in edges:
        graph.add_edge(Edge(nodes[tail], nodes[head], {"label": label}))
    return graph


def draw_net(caffe_net: Any, rankdir: str, ext: str = "png", phase: int | None = None,
             display_lrm: bool = False) -> bytes:
    """Return a drawing of a net as the content of a file with the suffix `ext`."""
    return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)


def draw_net_to_file(caffe_net: Any, filename: str, rankdir: str = "LR", phase: int | None = None,
                     display_lrm: bool = False) -> None:
    """Write a drawing of a net, whole or not at all; the suffix says the format, ``.raw`` is Graphviz text."""
    data = draw_net(caffe_net, rankdir, str(filename)[str(filename).rfind(".") + 1:], phase, display_lrm)
    with atomic_write(filename) as file:
        file.write(data)
