"""Messages that plug-ins declare in Python, put into the schema as if they stood in caffe.proto."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atrouscaffe.errors import LayerError

__all__ = ["FIRST_NUMBER", "Inner", "add_declared", "declare"]

FIRST_NUMBER = 30_000
"""Numbers of LayerParameter from here on are the plug-ins'; no Caffe has one above 1000."""
_LAST_NUMBER = 2**29 - 1
_UNNUMBERED = 25_000  # in the union alone, which is never written

_SCALARS: dict[type, str] = {bool: "TYPE_BOOL", int: "TYPE_INT32", float: "TYPE_FLOAT", str: "TYPE_STRING"}


@dataclass(frozen=True)
class Inner:
    """A field that is a message of Caffe, such as ``FillerParameter``."""

    message: str


@dataclass(frozen=True)
class _Declared:
    """A message for the options of a layer, and its field in LayerParameter."""

    name: str
    message: str
    number: int
    entries: Mapping[str, Any] = field(hash=False)


_declared: dict[str, _Declared] = {}
_built = False


def declare(name: str, entries: Mapping[str, Any], number: int = 0) -> None:
    """Declare the field of LayerParameter that holds a layer's options.

    Parameters
    ----------
    name : str
        Such as ``"soft_threshold_param"``; its message is then ``SoftThresholdParameter``.
    entries : mapping of str to object
        Fields with their defaults; `atrouscaffe.layers.base.Layer` says how each kind is written. Their order is
        their number in binary files: add new ones at the end.
    number : int
        Of the field in binary files; 0 for none.

    Raises
    ------
    LayerError
        A name, number or default that cannot be.
    """
    def fail(text: str) -> None:
        raise LayerError(f"message of {name!r}: {text}")

    if not (name.isidentifier() and name.endswith("_param")):
        fail("expected options to be a name that ends in _param")
    if number and not FIRST_NUMBER <= number <= _LAST_NUMBER:
        fail(f"expected 0 or a number from {FIRST_NUMBER} on, got {number}")
    if name in _declared or (number and any(other.number == number for other in _declared.values())):
        fail("expected a name and a number that no other plug-in has")
    if _built:
        fail("expected to be declared before the first net is read: through the entry point group atrouscaffe.layers")
    for entry, default in entries.items():
        if not entry.isidentifier() or _type_of(default) is None:
            fail(f"field {entry!r}: expected a float, int, bool, str, one of these types, a list with one of them, a "
                 f"tuple of words, or Inner(message), got {default!r}")
    words = [word for default in entries.values() if isinstance(default, tuple) for word in default]
    if len(set(words)) < len(words):
        fail("expected the words of all its enums to differ")  # they share one scope in protobuf
    message = "".join(word.capitalize() for word in name.removesuffix("_param").split("_")) + "Parameter"
    _declared[name] = _Declared(name, message, number, dict(entries))


def _type_of(default: Any) -> str | None:
    """Return protobuf's name of a field's type, None for no type."""
    if isinstance(default, list):
        default = default[0] if len(default) == 1 and isinstance(default[0], type) else None
    if isinstance(default, Inner):
        return "TYPE_MESSAGE"
    if isinstance(default, tuple):
        words = default and all(isinstance(word, str) and word.isidentifier() for word in default)
        return "TYPE_ENUM" if words and len(set(default)) == len(default) else None
    return _SCALARS.get(default if isinstance(default, type) else type(default))


def add_declared(file: Any, *, numbered_only: bool) -> None:
    """Add what was declared to a FileDescriptorProto, in place.

    Raises
    ------
    LayerError
        A field or message that Caffe has already, or an inner message that it does not have.
    """
    global _built
    _built = True
    messages = {message.name: message for message in file.message_type}
    layer = messages["LayerParameter"]
    taken = {entry.name for entry in layer.field}
    for i, declared in enumerate(_declared.values()):
        if declared.name in taken or declared.message in messages:
            raise LayerError(f"message of {declared.name!r}: expected a name that Caffe does not have")
        if numbered_only and not declared.number:
            continue
        _add_message(file, declared, messages)
        layer.field.add(name=declared.name, number=declared.number or _UNNUMBERED + i, label="LABEL_OPTIONAL",
                        type="TYPE_MESSAGE", type_name=f".{file.package}.{declared.message}")


def _add_message(file: Any, declared: _Declared, known: Mapping[str, Any]) -> None:
    message = file.message_type.add(name=declared.message)
    for number, (name, default) in enumerate(declared.entries.items(), 1):
        entry = message.field.add(name=name, number=number, type=_type_of(default),
                                  label="LABEL_REPEATED" if isinstance(default, list) else "LABEL_OPTIONAL")
        if isinstance(default, Inner):
            if default.message not in known:
                raise LayerError(f"message of {declared.name!r}: field {name!r}: Caffe has no message "
                                 f"{default.message!r}")
            entry.type_name = f".{file.package}.{default.message}"
        elif isinstance(default, tuple):
            kind = message.enum_type.add(name=f"{name.title().replace('_', '')}Kind")
            for i, word in enumerate(default):
                kind.value.add(name=word, number=i)
            entry.type_name, entry.default_value = f".{file.package}.{declared.message}.{kind.name}", default[0]
        elif not isinstance(default, (type, list)):
            entry.default_value = str(default).lower() if isinstance(default, bool) else str(default)
