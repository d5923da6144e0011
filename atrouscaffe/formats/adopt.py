"""Records that a fork's caffe.proto describes, in the words of this program.

Fields are the same where their names are: a number may differ, and so may its type (a ``kernel_size`` that was single
and is repeated now). What has no field here stays with its message as a phrase, so that whoever uses it can refuse it.
"""

from __future__ import annotations

from typing import Any

from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import FieldType, schema
from atrouscaffe.formats.wire import Numbers

__all__ = ["adopt"]

SHOWN = 300
"""Characters of a value that a phrase shows at most."""

_LAYER_TYPE = "V1LayerParameter.LayerType"


def adopt(record: Record, message: str = "") -> Record:
    """Return a record with the fields that this program has, and phrases for the others.

    Parameters
    ----------
    record : Record
    message : str, optional
        The message that it is here, the record's own type if not given.
    """
    message = message or record.type
    types = schema()[message].by_name
    out = Record(message, {}, record.source, record.unknown)
    for name, value in record.values.items():
        field = types.get(name)
        kept = [] if field is None else [_fitting(entry, field) for entry in _entries(value)]
        if field is None or None in kept:
            place = f"{record.source}: " if record.source else ""
            out.unknown += (f"{place}{message} has no such field: {_shown(name, value)[:SHOWN]}",)
        elif isinstance(value, Numbers):
            out.values[name] = value
        elif field.repeated:
            out.values[name] = kept
        elif kept:
            out.values[name] = kept[-1]
    return out


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _fitting(value: Any, field: FieldType) -> Any:
    """Return a value as one of a field, None where it is of another kind."""
    if isinstance(value, Record):
        return adopt(value, field.target) if field.kind == "message" else None
    if isinstance(value, Numbers):
        return value if field.kind in ("float", "double") and field.repeated else None
    if field.kind == "enum":
        return value if field.target == _LAYER_TYPE or value in schema().enums[field.target].numbers else None
    if field.kind in ("string", "bytes"):
        return value if isinstance(value, str if field.kind == "string" else bytes) else None
    if field.kind == "message" or not isinstance(value, (bool, int, float)):
        return None
    if field.kind in ("float", "double"):
        return float(value)
    if isinstance(value, float) and value != int(value):
        return None
    return bool(value) if field.kind == "bool" else int(value)


def _shown(name: str, value: Any) -> str:
    """Return a field as text, on one line."""
    parts = []
    for entry in _entries(value)[:SHOWN]:
        if isinstance(entry, Record):
            inner = " ".join(_shown(*field) for field in list(entry.values.items())[:SHOWN])
            parts.append(f"{name} {{ {inner} }}" if inner else f"{name} {{ }}")
        else:
            parts.append(f"{name}: {f'{len(entry)} numbers' if isinstance(entry, Numbers) else ascii(entry)[:SHOWN]}")
    return " ".join(parts)
