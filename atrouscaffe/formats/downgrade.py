"""The modern form said in the words of a dialect, for writing."""

from __future__ import annotations

from typing import Any

from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import schema
from atrouscaffe.formats.upgrade import V1_NAMES

__all__ = ["downgrade_net", "translate"]

_COPIED_TO_V1 = ("include", "exclude", "loss_weight", "strict_dim", "blobs")


def downgrade_net(net: Record, dialect: str) -> tuple[Record, tuple[str, ...]]:
    """Say a modern NetParameter in a dialect's words.

    Parameters
    ----------
    net : Record
        Modern form; it is not changed.
    dialect : str
        ``"v1"``: ``layers`` with enum types and ``hole``; the others: ``layer`` with ``dilation``.
        Where the dialect has no Input layer, the net's inputs are written as ``input``.

    Returns
    -------
    Record
    tuple of str
        What v1 (or another's ``input``) cannot say, with its layers; new-style text has words for the rest.
    """
    net = net.copy()
    layers = net.values.pop("layer", [])
    lost: dict[str, list[str]] = {}
    if dialect in ("v1", "v2", "segnet", "pspnet", "crfrnn"):
        layers = _inputs_of_net(net, layers, dialect, lost)
    if dialect == "v1":
        net.values["layers"] = [_to_v1(layer, lost) for layer in layers]
        if net.values.pop("debug_info", None):
            _lose(lost, "debug_info", "")
    else:
        for layer in layers:
            param = layer.get("convolution_param")
            if param is not None and param.has("hole"):
                param.values["dilation"] = param.values.pop("hole")
        net.values["layer"] = layers
    return net, tuple(_told(what, names) for what, names in lost.items())


def _lose(lost: dict[str, list[str]], what: str, layer: str) -> None:
    lost.setdefault(what, []).append(layer)


def _told(what: str, layers: list[str]) -> str:
    named = [f"'{name}'" for name in layers if name]
    if not named:
        return what
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"{what} (layer {', '.join(named[:3])}{more})"


def _inputs_of_net(net: Record, layers: list[Record], dialect: str, lost: dict[str, list[str]]) -> list[Record]:
    kept, names, shapes = [], [], []
    for layer in layers:
        if layer.get("type") != "Input":
            kept.append(layer)
            continue
        tops = layer.get("top", [])
        given = layer.get("input_param", Record("InputParameter")).get("shape", [])
        if len(given) not in (0, 1, len(tops)) or layer.has("include") or layer.has("exclude"):
            _lose(lost, "an Input layer without one shape a top, or with include rules", layer.get("name", ""))
            continue
        names += tops
        shapes += given if len(given) == len(tops) else given * len(tops)
    if not names:
        return kept
    head: dict[str, Any] = {"input": names}
    if shapes and len(shapes) != len(names):
        _lose(lost, "inputs of which only some have a shape", "")
    if shapes and dialect == "v1":
        if any(len(shape.get("dim", [])) != 4 for shape in shapes):
            _lose(lost, "an input that does not have four dimensions", "")
        head["input_dim"] = [dim for shape in shapes for dim in shape.get("dim", [])]
    elif shapes:  # the forks' weight files name their inputs only
        head["input_shape"] = shapes
    name = {"name": net.values.pop("name")} if net.has("name") else {}
    net.values = {**name, **head, **net.values}
    return kept


def _to_v1(layer: Record, lost: dict[str, list[str]]) -> Record:
    name = layer.get("name", "")
    values: dict[str, Any] = {"name": name}
    old = V1_NAMES.get(layer.get("type", ""))
    if old not in schema("v1").enums["V1LayerParameter.LayerType"].numbers:
        _lose(lost, f"type {layer.get('type')!r}", name)
    else:
        values["type"] = old
    for key in ("bottom", "top"):
        if layer.has(key):
            values[key] = layer.get(key)
    _params_to_v1(layer.get("param", []), values)
    known = schema("v1")["V1LayerParameter"].by_name
    for key, value in layer.values.items():
        if key in ("name", "type", "bottom", "top", "param", "phase"):  # v1 has one phase for the whole net
            continue
        if key in _COPIED_TO_V1:
            values[key] = value
        elif key not in known:
            _lose(lost, key, name)
        else:
            values[key] = _words_of_v1(value, key, name, lost)
    return Record("V1LayerParameter", values, layer.source)


def _params_to_v1(params: list[Record], values: dict[str, Any]) -> None:
    """Spread ``param`` messages over the four parallel lists of V1."""
    for key, field, default in (("param", "name", ""), ("blob_share_mode", "share_mode", "STRICT"),
                                ("blobs_lr", "lr_mult", 1.0), ("weight_decay", "decay_mult", 1.0)):
        if any(param.has(field) for param in params):
            values[key] = [param.get(field, default) for param in params]


def _words_of_v1(param: Record, key: str, name: str, lost: dict[str, list[str]]) -> Record:
    out = param.copy()
    if out.type == "ConvolutionParameter" and out.has("hole"):
        hole = out.values.pop("hole")
        if len(hole) == 1 or set(hole) == {hole[0]}:
            out.values["hole"] = hole[:1]
        elif len(hole) == 2:
            out.values["hole_h"], out.values["hole_w"] = hole
        else:
            _lose(lost, f"{key}.hole of {len(hole)} dimensions", name)
    for modern, old in (("ConcatParameter", "concat_dim"), ("SliceParameter", "slice_dim")):
        if out.type == modern and out.get("axis", -1) >= 0:
            out.values[old] = out.values.pop("axis")
    known = schema("v1")[out.type].by_name
    for field in [field for field in out.values if field not in known]:
        value = out.values.pop(field)
        if value != schema()[out.type].by_name[field].default:
            _lose(lost, f"{key}.{field}", name)
    return out


def translate(net: Record, source: str, target: str) -> tuple[str, ...]:
    """Rewrite, in place, the options whose meaning differs between v1 and the later dialects.

    The ignored label of the softmax loss, ArgMax over channels and the older contrastive loss have
    words on the other side.

    Parameters
    ----------
    net : Record
        Modern form.
    source, target : {"v1", "v2", "bvlc", ...}
        Dialects by which the layers behave.

    Returns
    -------
    tuple of str
        Layers that will compute something else in the target dialect, with the reason.
    """
    if (source == "v1") == (target == "v1"):
        return ()
    notes: list[str] = []
    for layer in net.get("layer", []):
        kind = layer.get("type")
        if kind == "SoftmaxWithLoss":
            note = _loss_from_v1(layer) if source == "v1" else _loss_to_v1(layer)
        elif kind == "ArgMax":
            note = _argmax(layer, source)
        elif kind == "ContrastiveLoss":
            note = _contrastive(layer, source)
        elif kind == "EuclideanLoss":
            note = "v1 divides by all elements, the others by the batch size"
        elif kind == "MVN" and not layer.get("mvn_param", Record("MVNParameter")).get("normalize_variance", True):
            note = "the gradient differs"
        else:
            note = ""
        if note:
            notes.append(f"layer '{layer.get('name', '')}' ({kind}): {note}")
    return tuple(notes)


def _loss_from_v1(layer: Record) -> str:
    old = layer.values.pop("softmaxloss_param", Record("SoftmaxLossParameter"))
    labels = old.get("ignore_label", [])
    if labels:
        layer.child("loss_param", "LossParameter").values["ignore_label"] = labels[0]
    if len(labels) > 1:
        return f"only one label can be ignored, not {labels}"
    return "class weights (weight_source) are lost" if old.get("weight_source") else ""


def _loss_to_v1(layer: Record) -> str:
    new = layer.values.pop("loss_param", Record("LossParameter"))
    if new.has("ignore_label"):
        layer.child("softmaxloss_param", "SoftmaxLossParameter").values["ignore_label"] = [new.get("ignore_label")]
    if new.get("normalization", "VALID") != "VALID" or not new.get("normalize", True):
        return "v1 always divides by the number of counted pixels"
    return ""


def _argmax(layer: Record, source: str) -> str:
    param = layer.child("argmax_param", "ArgMaxParameter")
    if source == "v1":
        param.values["axis"] = 1
        return "with out_max_val the indices are lost" if param.get("out_max_val") else ""
    if param.values.pop("axis", None) != 1:
        return "v1 works on the channels of each pixel"
    return ""


def _contrastive(layer: Record, source: str) -> str:
    param = layer.child("contrastive_loss_param", "ContrastiveLossParameter")
    if source == "v1":
        param.values["legacy_version"] = True
        return ""
    return "" if param.values.pop("legacy_version", False) else "v1 has the older formula (margin - d^2) only"
