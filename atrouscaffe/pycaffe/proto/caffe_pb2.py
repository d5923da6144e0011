"""Caffe's message classes and enums, as protoc would have made them from ``caffe.proto``.

Numbers are BVLC's, so that binary files are BVLC's; fields that only the DeepLab forks have
(``interp_param``, ``seg_accuracy_param``) are there under private numbers, so that nets that use them
can be built and written as text. Binary files of the forks are read by ``Net`` and ``convert``, which tell
the dialect.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from atrouscaffe.formats.schema import OPEN, enum_descriptor, file_descriptor, message_class

DESCRIPTOR = file_descriptor(OPEN)
_MESSAGES = tuple(DESCRIPTOR.message_types_by_name)
_ENUMS = tuple(DESCRIPTOR.enum_types_by_name)
_VALUES = {value: enum for enum in _ENUMS for value in enum_descriptor(enum, OPEN).values_by_name}

__all__ = ["DESCRIPTOR", *_MESSAGES, *_ENUMS, *_VALUES]


def __getattr__(name: str) -> Any:
    value: Any
    if name in _MESSAGES:
        value = message_class(name, OPEN)
    elif name in _ENUMS:
        value = EnumTypeWrapper(enum_descriptor(name, OPEN))
    elif name in _VALUES:
        value = enum_descriptor(_VALUES[name], OPEN).values_by_name[name].number
    elif name.startswith("_") and name[1:] in (known := {n.upper(): n for n in (*_MESSAGES, *_ENUMS)}):
        return DESCRIPTOR.message_types_by_name.get(known[name[1:]]) or enum_descriptor(known[name[1:]], OPEN)
    else:
        raise AttributeError(f"module 'caffe_pb2' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
