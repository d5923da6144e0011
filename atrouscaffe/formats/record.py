"""One message as it was written: plain Python, no protobuf, with its place.

Text and binary readers make `Record` trees, `upgrade` rewrites them, `fields` freezes them, the
writers write them.
"""

from __future__ import annotations

from typing import Any

from atrouscaffe.errors import Source

__all__ = ["Record"]


class Record:
    """The fields that one message set.

    Attributes
    ----------
    type : str
        Message type, such as ``"LayerParameter"``.
    values : dict of str to object
        Field name to value: int, float, bool, str (also enums), bytes, Record; a list of these
        if the field is repeated.
    source : Source or None
        Where it was read.
    unknown : tuple of str
        What it set that this program has no field for, a phrase each; whoever uses the message refuses it.
    """

    __slots__ = ("source", "type", "unknown", "values")

    def __init__(self, type: str, values: dict[str, Any] | None = None, source: Source | None = None,
                 unknown: tuple[str, ...] = ()) -> None:
        self.type = type
        self.values: dict[str, Any] = {} if values is None else values
        self.source = source
        self.unknown = unknown

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field's value, or `default` if it was not set."""
        return self.values.get(name, default)

    def has(self, name: str) -> bool:
        """Tell whether the field was set."""
        return name in self.values

    def child(self, name: str, type: str) -> Record:
        """Return the sub-message `name`, made if it is not there."""
        if name not in self.values:
            self.values[name] = Record(type, {}, self.source)
        return self.values[name]

    def copy(self) -> Record:
        """Return a deep copy of the tree; arrays and blob records inside are shared."""
        return Record(self.type, {k: _copied(v) for k, v in self.values.items()}, self.source, self.unknown)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (self.type, self.values) == (other.type, other.values)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Record({self.type}, {self.values!r})"


def _copied(value: Any) -> Any:
    if isinstance(value, Record):
        return value.copy()
    if isinstance(value, list):
        return [_copied(entry) for entry in value]
    return value
