"""Protobuf's text format, read and written by the schema.

Google's own parser knows neither the line of a message after parsing nor ``${NAME}``; this one
keeps the place of every message and names the nearest field when one is unknown.
"""

from __future__ import annotations

import bisect
import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from atrouscaffe.errors import PrototxtError, Source
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import EnumType, FieldType, Schema, float32, schema
from atrouscaffe.formats.template import fill_placeholders, hint_at

__all__ = ["MAX_DEPTH", "fill_placeholders", "format_record", "parse_record"]

MAX_DEPTH = 100
_FOR_TRAINING = frozenset((
    "DataParameter", "DenseImageDataParameter", "HDF5DataParameter", "ImageDataParameter", "MemoryDataParameter",
    "SolverParameter", "TransformationParameter", "WindowDataParameter"))
_LAYERS = ("LayerParameter", "V1LayerParameter")
_SPACE = re.compile(r"(?:[ \t\r\n\f\v]+|#[^\n]*)*")
_TOKEN = re.compile(r"""
    (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)(?![A-Za-z0-9_.]))
  | (?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
  | (?P<mark>[{}<>\[\]:;,-])
""", re.VERBOSE)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v",
           "\\": "\\", "'": "'", '"': '"', "?": "?"}
_BOOL = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}
_RANGE = {"int32": (-2**31, 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-2**63, 2**63 - 1),
          "uint64": (0, 2**64 - 1)}


def parse_record(text: str, message: str, path: str = "", words: Schema | None = None) -> Record:
    """Parse a message.

    Parameters
    ----------
    text : str
    message : str
        Type of the outermost message, such as ``"NetParameter"``.
    path : str
        Named in errors and sources.
    words : Schema, optional
        What fields there are; the union of all dialects if not given.

    Raises
    ------
    PrototxtError
        With file, line and column; for an unknown field or enum with the nearest known name.
    """
    return _Parser(text, path, words or schema()).message(message)


class _Parser:
    def __init__(self, text: str, path: str, words: Schema) -> None:
        self.text, self.path, self.schema = text, path, words
        self.breaks = [m.start() for m in re.finditer("\n", text)]
        self.end = 0        # behind the current token
        self.advance()

    def advance(self) -> None:
        """Read the next token into `kind`, `token`, `start`."""
        start = _SPACE.match(self.text, self.end).end()  # type: ignore[union-attr]
        self.start = start
        match = _TOKEN.match(self.text, start)
        if match is None:
            if start < len(self.text):
                self.fail(f"expected a field name or a value, got {self.text[start:start + 20]!r}"
                          + hint_at(self.text, start))
            self.kind, self.token, self.end = "end", "", start
            return
        self.kind, self.token, self.end = match.lastgroup or "", match.group(), match.end()

    def source(self) -> Source:
        line = bisect.bisect_left(self.breaks, self.start)
        begin = self.breaks[line - 1] + 1 if line else 0
        return Source(self.path, line + 1, self.start - begin + 1)

    def fail(self, message: str, source: Source | None = None) -> None:
        raise PrototxtError(message, str(source or self.source()))

    def expected(self, what: str, value: bool = False) -> None:
        got = f"'{self.token[:60]}'" if self.kind != "end" else "the end of the file"
        self.fail(f"expected {what}, got {got}{hint_at(self.text, self.start) if value else ''}")

    def take(self, mark: str) -> bool:
        if self.kind == "mark" and self.token == mark:
            self.advance()
            return True
        return False

    def message(self, type_: str) -> Record:
        record = Record(type_, {}, Source(self.path, 1, 1))
        self.fields(record, "", 0)
        return record

    def fields(self, record: Record, close: str, depth: int) -> None:
        """Read fields up to the closing mark, or to the end of the text."""
        types = self.schema.messages[record.type].by_name
        while True:
            if self.kind == "name":
                field = types.get(self.token)
                if field is None:
                    self.unknown_field(record, types, depth)
                else:
                    self.field(record, field, depth)
                if not self.take(";"):
                    self.take(",")
            elif self.kind == "end" and not close:
                return
            elif close and self.kind == "mark" and self.token == close:
                self.advance()
                if record.type in _LAYERS and record.unknown and record.get("bottom"):
                    raise PrototxtError(record.unknown[0])  # only a layer without bottoms may be one that trains only
                return
            else:
                self.expected(f"a field of {record.type}" + (f" or '{close}'" if close else ""))

    def unknown_field(self, record: Record, types: Mapping[str, FieldType], depth: int) -> None:
        """Refuse a field; in a message for training, which a deploy net may hold unused, pass over and note it."""
        near = difflib.get_close_matches(self.token, types, 1)
        hint = f"did you mean '{near[0]}'?" if near else "see atrouscaffe/formats/caffe.proto for the fields"
        text = f"{record.type} has no field '{self.token[:60]}'"
        data_layer = record.type in _LAYERS and self.token.endswith("data_param")
        if record.type not in _FOR_TRAINING and not data_layer:
            self.fail(f"{text}; {hint}")
        phrase = f"{self.source()}: {text}; {hint}"
        self.advance()
        self.skip(depth)
        if len(record.unknown) < 10:
            record.unknown += (phrase,)

    def skip(self, depth: int) -> None:
        """Pass over the value of a field that is not known."""
        colon = self.take(":")
        if self.token in ("{", "<", "["):
            if depth + 1 > MAX_DEPTH:
                self.fail(f"messages nest deeper than {MAX_DEPTH}")
            close = {"{": "}", "<": ">", "[": "]"}[self.token]
            self.advance()
            while not self.take(close):
                if close == "]":
                    self.skip(depth + 1) if self.token in ("{", "<") else self.skip_scalar()
                    if self.token != close and not self.take(","):
                        self.expected("',' or ']'")
                else:
                    if self.kind != "name":
                        self.expected(f"a field or '{close}'")
                    self.advance()
                    self.skip(depth + 1)
                    if not self.take(";"):
                        self.take(",")
        elif colon:
            self.skip_scalar()
        else:
            self.expected("':' or '{' after a field")

    def skip_scalar(self) -> None:
        self.take("-")
        if self.kind not in ("name", "number", "string"):
            self.expected("a value")
        strings = self.kind == "string"
        self.advance()
        while strings and self.kind == "string":
            self.advance()

    def field(self, record: Record, field: FieldType, depth: int) -> None:
        source = self.source()
        if not field.repeated and field.name in record.values:
            self.fail(f"field '{field.name}' of {record.type} is given twice")
        self.advance()
        colon = self.take(":")
        if not colon and field.kind != "message":
            self.expected(f"':' after '{field.name}'")
        if field.repeated and self.take("["):
            values = record.values.setdefault(field.name, [])
            if self.take("]"):
                return
            while True:
                values.append(self.value(field, self.source(), depth))
                if self.take("]"):
                    return
                if not self.take(","):
                    self.expected("',' or ']'")
        value = self.value(field, source, depth)
        if field.repeated:
            record.values.setdefault(field.name, []).append(value)
        else:
            record.values[field.name] = value

    def value(self, field: FieldType, source: Source, depth: int) -> Any:
        kind = field.kind
        if kind == "message":
            return self.submessage(field, source, depth)
        if kind in ("string", "bytes"):
            return self.string(field)
        negative = self.take("-")
        text, where = self.token, self.source()
        if kind == "enum":
            value: Any = self.enum(field, self.schema.enums[field.target], negative)
        elif kind == "bool":
            if negative or text not in _BOOL:
                self.expected(f"true or false for '{field.name}'", value=True)
            value = _BOOL[text]
        elif kind in ("float", "double"):
            value = self.number(field, negative)
        else:
            value = self.integer(field, negative)
            low, high = _RANGE[kind]
            if not low <= value <= high:
                self.fail(f"'{field.name}' is {'-' * negative}{text[:40]}, outside {low} to {high}", where)
        self.advance()
        return value

    def submessage(self, field: FieldType, source: Source, depth: int) -> Record:
        if depth + 1 > MAX_DEPTH:
            self.fail(f"messages nest deeper than {MAX_DEPTH}")
        close = "}" if self.token == "{" else ">"
        if not (self.take("{") or self.take("<")):
            self.expected(f"'{{' after '{field.name}'")
        record = Record(field.target, {}, source)
        self.fields(record, close, depth + 1)
        return record

    def string(self, field: FieldType) -> Any:
        if self.kind != "string":
            hint = " (write the type as a quoted name, or `layers {}` for the old form)" if field.name == "type" else ""
            self.expected(f"a quoted string for '{field.name}'{hint}")
        parts = []
        while self.kind == "string":
            parts.append(_unescape(self.token[1:-1]))
            self.advance()
        data = b"".join(parts)
        if field.kind == "bytes":
            return data
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"the string of '{field.name}' is not UTF-8")

    def enum(self, field: FieldType, enum: EnumType, negative: bool) -> str:
        if self.kind == "name" and not negative:
            if self.token not in enum.numbers:
                near = difflib.get_close_matches(self.token.upper(), enum.numbers, 1) \
                    or difflib.get_close_matches(self.token, enum.numbers, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(enum.numbers))}"
                self.fail(f"'{field.name}' has no value '{self.token[:60]}'; {hint}")
            return self.token
        if self.kind == "string":
            self.fail(f"expected a name without quotes for '{field.name}', got {self.token[:60]}; known are "
                      f"{', '.join(sorted(enum.numbers))}"
                      + (" (`layers` has unquoted types, `layer` quoted ones)" if field.name == "type" else ""))
        number = self.integer(field, negative)
        if number not in enum.names:
            self.fail(f"'{field.name}' has no value {number}; known are {', '.join(sorted(enum.numbers))}")
        return enum.names[number]

    def integer(self, field: FieldType, negative: bool) -> int:
        text = self.token
        if self.kind == "number" and len(text) <= 40:
            try:
                if text[:2] in ("0x", "0X"):
                    value = int(text, 16)
                else:
                    value = int(text, 8 if len(text) > 1 and text[0] == "0" else 10)
            except ValueError:
                self.expected(f"an integer for '{field.name}'")
            return -value if negative else value
        self.expected(f"an integer for '{field.name}'", value=True)
        return 0

    def number(self, field: FieldType, negative: bool) -> float:
        text = self.token
        if self.kind == "number" and text[:2] not in ("0x", "0X"):
            value = float(text.rstrip("fF"))
        elif self.kind == "name" and text.lower() in ("inf", "infinity", "nan"):
            value = float(text)
        else:
            self.expected(f"a number for '{field.name}'", value=True)
        value = -value if negative else value
        return float32(value) if field.kind == "float" else value


def _unescape(text: str) -> bytes:
    def plain(part: str) -> bytes:
        return part.encode("utf-8", "surrogatepass")

    if "\\" not in text:
        return plain(text)
    out, position = [], 0
    for match in _ESCAPE.finditer(text):
        out.append(plain(text[position:match.start()]))
        code, position = match.group(1), match.end()
        if code in _SIMPLE:
            out.append(plain(_SIMPLE[code]))
        elif code[0] == "x" and len(code) > 1:
            out.append(bytes([int(code[1:], 16)]))
        elif code[0] in "01234567":
            out.append(bytes([int(code, 8) & 255]))
        elif code[0] in "uU" and len(code) > 1 and int(code[1:], 16) < 0x110000:
            out.append(plain(chr(int(code[1:], 16))))
        else:
            out.append(plain(match.group()))
    return b"".join([*out, plain(text[position:])])


def format_record(record: Record, indent: str = "") -> str:
    """Write a record as text, two spaces a level, in the order of its values."""
    types = schema().messages[record.type].by_name
    lines: list[str] = []
    for name, value in record.values.items():
        field = types[name]
        for entry in value if field.repeated else (value,):
            if field.kind == "message":
                lines.append(f"{indent}{name} {{\n{format_record(entry, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_format_scalar(entry, field.kind)}\n")
    return "".join(lines)


def _format_scalar(value: Any, kind: str) -> str:
    if kind == "bool":
        return "true" if value else "false"
    if kind == "string":
        return _quoted(value.encode("utf-8", "surrogatepass"), text=True)
    if kind == "bytes":
        return _quoted(value, text=False)
    if kind in ("float", "double"):
        return _format_float(float(value), kind == "float")
    return str(value)


def _quoted(data: bytes, text: bool) -> str:
    out = []
    for byte in data:
        if byte in b'"\\':
            out.append("\\" + chr(byte))
        elif 32 <= byte < 127:
            out.append(chr(byte))
        elif byte == 10:
            out.append("\\n")
        else:
            out.append(f"\\{byte:03o}")
    if text and all(byte >= 32 and byte not in b'"\\' for byte in data):
        return f'"{data.decode("utf-8", "replace")}"'
    return '"' + "".join(out) + '"'


def _format_float(value: float, single: bool) -> str:
    """Return the shortest text that reads back as the same number."""
    if math.isnan(value) or math.isinf(value):
        return str(value)
    if value == int(value) and abs(value) < 1e7:
        return str(int(value)) if value or math.copysign(1, value) > 0 else "-0.0"
    for digits in range(1, 18):
        text = f"{value:.{digits}g}"
        if (float32(float(text)) if single else float(text)) == value:
            return text
    return repr(value)
