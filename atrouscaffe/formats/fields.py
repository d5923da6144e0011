"""Records frozen into `Fields` and `NetSpec`, and back."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from atrouscaffe.errors import PrototxtError, Source, blame
from atrouscaffe.formats.dialect import spec_dialect
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import schema
from atrouscaffe.spec import Fields, LayerSpec, NetSpec, ParamSpec, Phase, StateRule

__all__ = ["default_fields", "net_record", "net_spec", "to_fields", "to_record"]

BLOBS = "BlobProto"


class _Defaults(Mapping):
    """Every field of a message with its default; messages as functions that make one."""

    def __init__(self, message: str) -> None:
        self._values: dict[str, Any] = {}
        for field in schema().messages[message].by_name.values():
            if field.target == BLOBS:
                continue
            value = field.default
            if field.kind == "message" and not field.repeated:
                value = NetSpec if field.target == "NetParameter" else functools.partial(default_fields, field.target)
            self._values[field.name] = value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@functools.cache
def _defaults(message: str) -> _Defaults:
    return _Defaults(message)


@functools.cache
def default_fields(message: str) -> Fields:
    """Return a message in which nothing is set."""
    return Fields(message, {}, _defaults(message))


def to_fields(record: Record) -> Fields:
    """Freeze a record; its blobs are left out.

    A NetParameter inside another message (a solver's ``net_param``) must have been made a
    `NetSpec` before.
    """
    types = schema().messages[record.type].by_name
    values: dict[str, Any] = {}
    for name, value in record.values.items():
        if types[name].target == BLOBS:
            continue
        if types[name].repeated:
            if value:
                values[name] = tuple(to_fields(v) if isinstance(v, Record) else v for v in value)
        else:
            values[name] = to_fields(value) if isinstance(value, Record) else value
    return Fields(record.type, values, _defaults(record.type), record.unknown)


def to_record(fields: Fields) -> Record:
    """Thaw a message.

    Raises
    ------
    PrototxtError
        It holds what there is no field for.
    """
    unknown = fields.all_unknown()
    if unknown:
        raise PrototxtError(f"cannot be written, since {unknown[0]}")
    values: dict[str, Any] = {}
    for name in fields:
        value = getattr(fields, name)
        if isinstance(value, tuple):
            values[name] = [_thawed(v) for v in value]
        else:
            values[name] = _thawed(value)
    return Record(fields.message_name, values)


def _thawed(value: Any) -> Any:
    if isinstance(value, Fields):
        return to_record(value)
    return net_record(value) if isinstance(value, NetSpec) else value


def _phase(name: str | None) -> Phase | None:
    return None if name is None else Phase[name]


def _rules(records: list[Record]) -> tuple[StateRule, ...]:
    return tuple(StateRule(_phase(r.get("phase")), r.get("min_level"), r.get("max_level"),
                           tuple(r.get("stage", ())), tuple(r.get("not_stage", ()))) for r in records)


def _layer_spec(record: Record) -> LayerSpec:
    fields = to_fields(record)
    return LayerSpec(
        name=fields.name, type=fields.type, bottoms=fields.bottom, tops=fields.top, fields=fields,
        params=tuple(ParamSpec(p.name, p.lr_mult, p.decay_mult, p.share_mode) for p in fields.param),
        loss_weights=fields.loss_weight, include=_rules(record.get("include", [])),
        exclude=_rules(record.get("exclude", [])), phase=_phase(record.get("phase")),
        propagate_down=fields.propagate_down, strict_dim=fields.strict_dim, source=record.source)


def net_spec(record: Record, dialect: str, path: str = "", notes: tuple[str, ...] = ()) -> NetSpec:
    """Make the NetSpec of an upgraded NetParameter.

    Parameters
    ----------
    record : Record
        NetParameter in the modern form.
    dialect : str
        Wire dialect it came in.
    path : str
        File it came from.
    notes : tuple of str
        See `NetSpec`.
    """
    state = record.get("state") or Record("NetState")
    return NetSpec(
        name=record.get("name", ""), layers=tuple(_layer_spec(layer) for layer in record.get("layer", [])),
        dialect=spec_dialect(dialect), force_backward=record.get("force_backward", False),
        debug_info=record.get("debug_info", False), level=state.get("level", 0),
        stages=tuple(state.get("stage", ())), phase=_phase(state.get("phase")), path=path, notes=notes)


def _rule_records(rules: tuple[StateRule, ...]) -> list[Record]:
    records = []
    for rule in rules:
        values = {"phase": None if rule.phase is None else rule.phase.name, "min_level": rule.min_level,
                  "max_level": rule.max_level, "stage": list(rule.stages), "not_stage": list(rule.not_stages)}
        records.append(Record("NetStateRule", {k: v for k, v in values.items() if v not in (None, [])}))
    return records


def _param_record(param: ParamSpec, given: Record | None) -> Record:
    default = ParamSpec()
    values = {} if given is None else dict(given.values)
    for name in ("name", "lr_mult", "decay_mult", "share_mode"):
        value = getattr(param, name)
        if value != getattr(default, name) or name in values:
            values[name] = value
    return Record("ParamSpec", values)


def _layer_record(layer: LayerSpec) -> Record:
    """Return the layer's message; what LayerSpec says wins over its `fields`."""
    with blame(layer):
        record = to_record(layer.fields)
    given = record.get("param", [])
    params = [_param_record(p, given[i] if i < len(given) else None) for i, p in enumerate(layer.params)]
    values = {"name": layer.name, "type": layer.type, "bottom": list(layer.bottoms), "top": list(layer.tops),
              "phase": None if layer.phase is None else layer.phase.name, "loss_weight": list(layer.loss_weights),
              "param": params, "propagate_down": list(layer.propagate_down),
              "include": _rule_records(layer.include), "exclude": _rule_records(layer.exclude),
              "strict_dim": None if layer.strict_dim else False}
    for name in values:
        record.values.pop(name, None)
    head = {name: value for name, value in values.items() if value not in (None, [])}
    return Record("LayerParameter", {**head, **record.values}, layer.source)


def net_record(net: NetSpec) -> Record:
    """Return the NetParameter of a NetSpec, in the modern form."""
    values: dict[str, Any] = {}
    if net.name:
        values["name"] = net.name
    state = {"phase": None if net.phase is None else net.phase.name, "level": net.level or None,
             "stage": list(net.stages)}
    state = {name: value for name, value in state.items() if value not in (None, [])}
    if state:
        values["state"] = Record("NetState", state)
    for flag in ("force_backward", "debug_info"):
        if getattr(net, flag):
            values[flag] = True
    values["layer"] = [_layer_record(layer) for layer in net.layers]
    return Record("NetParameter", values, Source(net.path) if net.path else None)
