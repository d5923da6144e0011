"""The schema of Caffe's messages, whole (``union``, ``open``) or as one dialect numbers them.

The compiled ``caffe.desc`` is read through a descriptor pool of our own: there is no generated
module, so no version of protobuf from 4 on can refuse it, and nothing clashes with another
package that registers Caffe's messages.
"""

from __future__ import annotations

import copy
import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from atrouscaffe.formats.declare import add_declared
from atrouscaffe.formats.dialect import WIRE_DIALECTS, check_dialect, localize
from atrouscaffe.plugins import load_plugins

__all__ = ["OPEN", "EnumType", "FieldType", "MessageType", "Schema", "enum_descriptor", "file_descriptor", "float32",
           "message_class", "schema"]

PACKAGE = "atrouscaffe"
OPEN = "open"
_KINDS = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 11: "message",
          12: "bytes", 13: "uint32", 14: "enum"}
_ZERO = {"double": 0.0, "float": 0.0, "bool": False, "string": "", "bytes": b""}


def float32(value: float) -> float:
    """Round to the nearest float32, as every ``float`` field does; too large becomes infinity."""
    return ctypes.c_float(value).value


@dataclass(frozen=True)
class EnumType:
    """An enum: names to numbers and back."""

    name: str
    numbers: dict[str, int]
    names: dict[int, str]


@dataclass(frozen=True)
class FieldType:
    """A field: `kind` is a protobuf scalar type, ``"enum"`` or ``"message"``; `target` names those.

    Kinds that no Caffe uses (groups, fixed and zigzag integers) are ``"other"``.
    """

    name: str
    number: int
    kind: str
    repeated: bool
    packed: bool
    target: str
    default: Any


@dataclass(frozen=True)
class MessageType:
    """A message: its fields by name and by number."""

    name: str
    by_name: dict[str, FieldType]
    by_number: dict[int, FieldType]


class Schema:
    """All messages and enums of one dialect, or of the union.

    Parameters
    ----------
    file : google.protobuf.descriptor_pb2.FileDescriptorProto
    """

    def __init__(self, file: Any) -> None:
        self.messages: dict[str, MessageType] = {}
        self.enums: dict[str, EnumType] = {}
        self._prefix = f".{file.package}." if file.package else "."
        for enum in file.enum_type:
            self._add_enum(enum, enum.name)
        found = [(message.name, message) for message in file.message_type]
        for name, message in found:  # it grows
            found += [(f"{name}.{inner.name}", inner) for inner in message.nested_type]
            for enum in message.enum_type:
                self._add_enum(enum, f"{name}.{enum.name}")
        for name, message in found:
            self._add_message(name, [self._field(field) for field in message.field])

    def __getitem__(self, name: str) -> MessageType:
        return self.messages[name]

    def inner(self, name: str) -> list[str]:
        """Return the messages that a message has fields of."""
        return sorted({field.target for field in self.messages[name].by_name.values() if field.kind == "message"})

    def with_words_of(self, other: Schema) -> Schema:
        """Return this schema with the messages, fields and values that only `other` has, for reading text."""
        both = copy.copy(self)
        both.messages, both.enums = dict(other.messages), dict(other.enums)
        for name, message in self.messages.items():
            theirs = other.messages[name].by_name.values() if name in other.messages else ()
            both._add_message(name, [*message.by_name.values(),
                                     *(field for field in theirs if field.name not in message.by_name)])
        for name, enum in self.enums.items():
            numbers = {**(other.enums[name].numbers if name in other.enums else {}), **enum.numbers}
            both.enums[name] = EnumType(name, numbers, enum.names)
        return both

    def _add_message(self, name: str, fields: Sequence[FieldType]) -> None:
        self.messages[name] = MessageType(name, {f.name: f for f in fields}, {f.number: f for f in fields})

    def _add_enum(self, enum: Any, name: str) -> None:
        numbers = {value.name: value.number for value in enum.value}
        self.enums[name] = EnumType(name, numbers, {n: v for v, n in numbers.items()})

    def _field(self, field: Any) -> FieldType:
        kind = _KINDS.get(field.type, "other")
        target = field.type_name.removeprefix(self._prefix)
        return FieldType(field.name, field.number, kind, field.label == 3, field.options.packed, target,
                         self._default(field, kind, target))

    def _default(self, field: Any, kind: str, target: str) -> Any:
        text = field.default_value
        if field.label == 3:
            return ()
        if kind in ("message", "other"):
            return None
        if kind == "enum":
            return text or next(iter(self.enums[target].numbers))
        if not text:
            return _ZERO.get(kind, 0)
        if kind == "bool":
            return text == "true"
        if kind in ("float", "double"):
            return float32(float(text)) if kind == "float" else float(text)
        return text if kind == "string" else int(text)


def _file(dialect: str) -> Any:
    from google.protobuf import descriptor_pb2
    load_plugins()  # what they declare belongs to the schema
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString(resources.files(__package__).joinpath("caffe.desc").read_bytes())
    file = files.file[0]
    if dialect != "union":
        localize(file, "bvlc" if dialect == OPEN else dialect, keep_all=dialect == OPEN)
    add_declared(file, numbered_only=dialect not in ("union", OPEN))
    return file


@functools.cache
def schema(dialect: str = "union") -> Schema:
    """Return the schema of a wire dialect, of the ``union``, or the ``open`` one.

    Raises
    ------
    ArgumentError
        An unknown dialect.
    """
    check_dialect(dialect, ("union", OPEN, *WIRE_DIALECTS))
    return Schema(_file(dialect))


@functools.cache
def _pool(dialect: str) -> Any:
    from google.protobuf import descriptor_pool
    check_dialect(dialect, ("union", OPEN, *WIRE_DIALECTS))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file(dialect).SerializeToString())
    return pool


def enum_descriptor(name: str, dialect: str = "union") -> Any:
    """Return protobuf's descriptor of a top-level enum, such as ``"Phase"``; KeyError if there is none."""
    return _pool(dialect).FindEnumTypeByName(f"{PACKAGE}.{name}")


def file_descriptor(dialect: str = "union") -> Any:
    """Return protobuf's descriptor of the whole file."""
    return _pool(dialect).FindMessageTypeByName(f"{PACKAGE}.NetParameter").file


def message_class(name: str, dialect: str = "union") -> Any:
    """Return a protobuf message class, such as ``message_class("NetParameter", "bvlc")``.

    Parameters
    ----------
    name : str
        Message name without package.
    dialect : str
        ``"union"`` has every field, with private numbers where the dialects dispute them: fit
        for text only. Binary files need the dialect that wrote them. ``"open"`` is ``"bvlc"`` plus the
        fields that BVLC lacks, under private numbers: for scripts that build nets of any dialect and
        read and write BVLC's files.

    Raises
    ------
    ArgumentError
        An unknown dialect.
    KeyError
        An unknown message.
    """
    from google.protobuf import message_factory
    pool = _pool(dialect)
    descriptor = pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)
