"""Nets written in Python: ``NetSpec``, ``layers`` (L), ``params`` (P), ``to_proto``.

A layer is called with its bottoms and its options, and returns its tops; nothing is made until
`to_proto` walks back from what was assigned and names what has no name yet.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from atrouscaffe.pycaffe.proto import caffe_pb2

__all__ = ["Function", "Layers", "NetSpec", "Parameters", "Top", "assign_proto", "layers", "param_name_dict",
           "params", "to_proto"]


def param_name_dict() -> dict[str, str]:
    """Return layer type → its field without ``_param``, such as ``{"InnerProduct": "inner_product"}``."""
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields
    return {field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param")
            for field in fields if field.name.endswith("_param") and field.message_type is not None}


def to_proto(*tops: Top | Function) -> Any:
    """Return the NetParameter of all layers that `tops` need."""
    return _net(_layers_of(tops, {}))


def assign_proto(proto: Any, name: str, val: Any) -> None:
    """Set a field from Python values: lists fill repeated fields, dicts messages, one value alone a list of one."""
    if name not in proto.DESCRIPTOR.fields_by_name:
        near = difflib.get_close_matches(name, list(proto.DESCRIPTOR.fields_by_name), n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise AttributeError(f'Protocol message {proto.DESCRIPTOR.name} has no "{name}" field{hint}')
    field = getattr(proto, name)
    if hasattr(field, "extend"):
        values = val if isinstance(val, (list, tuple)) else [val]
        if values and isinstance(values[0], dict):
            for item in values:
                _assign_all(field.add(), item)
        else:
            field.extend(values)
    elif isinstance(val, dict):
        _assign_all(field, val)
    elif isinstance(val, (list, tuple)):
        raise TypeError(f"{name} takes one value, got {val!r}")
    else:
        setattr(proto, name, val)


def _assign_all(message: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(message, name, value)


class Top:
    """One output of a layer."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> Any:
        """Return the NetParameter of all layers that this top needs."""
        return to_proto(self)


class Function:
    """A layer that was written down: its type, its inputs, its options, its tops."""

    def __init__(self, type_name: str, inputs: tuple[Any, ...], params: dict[str, Any]) -> None:
        self.type_name = type_name
        for index, given in enumerate(inputs):
            if not isinstance(given, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(given)})")
        self.inputs: tuple[Top, ...] = inputs
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def to_proto(self) -> Any:
        """Return the NetParameter of this layer and all that it needs."""
        return to_proto(self)

    def _message(self, bottoms: list[str], tops: list[str], name: str) -> Any:
        """Return the LayerParameter."""
        layer = caffe_pb2.LayerParameter()
        layer.type, layer.name = self.type_name, name
        layer.bottom.extend(bottoms)
        layer.top.extend(tops)
        own = _param_names.get(self.type_name)
        for key, value in self.params.items():
            if key.endswith("param") or own is None:
                assign_proto(layer, key, value)
                continue
            message = getattr(layer, f"{own}_param")
            assign_proto(message if key in message.DESCRIPTOR.fields_by_name else layer, key, value)
        return layer


def _unfinished(root: Function, done: dict[Function, Any]) -> Iterator[Function]:
    """Yield `root` and the layers below it that are not done, inputs first; without recursion, nets are deep."""
    stack = [(root, iter(root.inputs))]
    while stack:
        function, inputs = stack[-1]
        below = next((top.fn for top in inputs if top.fn not in done), None)
        if below is not None:
            stack.append((below, iter(below.inputs)))
            continue
        stack.pop()
        if function not in done:
            yield function


def _layers_of(roots: Any, names: dict[Any, str]) -> dict[Function, Any]:
    """Return the messages of all layers that `roots` need, in order; `names` are those of tops and functions."""
    counts: Counter[str] = Counter()

    def named(thing: Top | Function, type_name: str) -> str:
        if thing not in names:
            counts[type_name] += 1
            names[thing] = f"{type_name}{counts[type_name]}"
        return names[thing]

    done: dict[Function, Any] = {}
    for root in roots:
        for fn in _unfinished(root.fn if isinstance(root, Top) else root, done):
            bottoms = [done[top.fn].top[top.n] for top in fn.inputs]
            tops = bottoms if fn.in_place else [named(top, fn.type_name) for top in fn.tops]
            if fn not in names:
                names[fn] = named(fn.tops[0], fn.type_name) if fn.tops else named(fn, fn.type_name)
            done[fn] = fn._message(bottoms, tops, names[fn])
    return done


def _net(layers: dict[Function, Any]) -> Any:
    net = caffe_pb2.NetParameter()
    net.layer.extend(layers.values())
    return net


class NetSpec:
    """Named tops: what is assigned to an attribute (or an item) gives its name to the blob and the layer.

    ``to_proto`` holds whatever the assigned tops need.
    """

    def __init__(self) -> None:
        super().__setattr__("tops", {})

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle ask for these
            raise AttributeError(name)
        try:
            return self.tops[name]
        except KeyError:
            raise _NoTop(f"the net has no top {name!r} yet; it has {', '.join(self.tops) or 'none'}") from None

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    __setitem__ = __setattr__
    __getitem__ = __getattr__
    __delitem__ = __delattr__

    def to_proto(self) -> Any:
        """Return the NetParameter of all layers that the assigned tops need."""
        names = {top: name for name, top in self.tops.items()}
        return _net(_layers_of(self.tops.values(), names))


class _NoTop(KeyError, AttributeError):
    """A name that was not assigned: pycaffe raises KeyError, ``hasattr`` asks for AttributeError."""

    __str__ = Exception.__str__


class Layers:
    """``L``: any layer type as a function, ``L.Convolution(bottom, num_output=2, kernel_size=3)``.

    Options are fields of the layer's own message or of LayerParameter; ``ntop`` says how many tops,
    ``in_place`` that they are the bottoms. One top is returned as it is, several as a tuple, for none
    the layer itself.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer_fn(*args: Any, **kwargs: Any) -> Any:
            fn = Function(name, args, kwargs)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        layer_fn.__name__ = name
        return layer_fn


class Parameters:
    """``P``: the constants of a layer's message, ``P.Pooling.MAX``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Constants(name)


class _Constants:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(caffe_pb2, f"{self._name}Parameter"), name)


_param_names = param_name_dict()
layers = Layers()
params = Parameters()
