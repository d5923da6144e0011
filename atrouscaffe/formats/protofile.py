"""A fork's caffe.proto: its messages and numbers, read by protobuf's own compiler.

The compiler (``grpcio-tools``) runs in a process of its own, on a copy of the file in an empty folder, so that a file
can neither name another one nor harm this process.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from atrouscaffe.errors import DependencyError, PrototxtError
from atrouscaffe.formats.limited import read_at_most
from atrouscaffe.formats.schema import Schema

__all__ = ["read_proto"]

MAX_BYTES = 1 << 19
"""Largest file accepted; the longest of the forks has 120 kB."""
MAX_FIELDS = 10_000
MAX_DEPTH = 30
SECONDS = 20
_NEEDED = {"NetParameter": ("name",), "BlobProto": ("data",)}


def read_proto(path: str | Path) -> Schema:
    """Read a fork's caffe.proto.

    Raises
    ------
    PrototxtError
        What does not compile, with file, line and column; imports, messages that hold themselves, too many fields; a
        file without Caffe's messages.
    DependencyError
        ``grpcio-tools`` is not installed.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    data = read_at_most(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PrototxtError(f"a text of more than {MAX_BYTES >> 10} KiB is not a caffe.proto", str(path))
    file = _compile(data, str(path))
    if file.dependency:
        raise PrototxtError(f"imports {file.dependency[0]!r}; expected a caffe.proto, which stands alone", str(path))
    schema = Schema(file)
    count = sum(len(message.by_name) for message in schema.messages.values())
    if count > MAX_FIELDS:
        raise PrototxtError(f"{count} fields; a caffe.proto has some 1,000, at most {MAX_FIELDS} are read", str(path))
    _check_depth(schema, str(path))
    for message, fields in _NEEDED.items():
        known = schema.messages[message].by_name if message in schema.messages else {}
        lacking = [field for field in fields if field not in known]
        if lacking:
            raise PrototxtError(f"expected a fork's caffe.proto, but it has no {message}.{lacking[0]}", str(path))
    if not {"layer", "layers"} & set(schema.messages["NetParameter"].by_name):
        raise PrototxtError("expected a fork's caffe.proto, but its NetParameter has no layers", str(path))
    return schema


def _compile(data: bytes, path: str) -> Any:
    """Return the FileDescriptorProto of a file's text."""
    from google.protobuf import descriptor_pb2

    if importlib.util.find_spec("grpc_tools") is None:
        raise DependencyError("reading a caffe.proto needs protobuf's compiler, which is not installed; "
                              "pip install 'atrouscaffe[proto]'")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "fork.proto"), Path(folder, "fork.desc")
        source.write_bytes(data)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={folder}",
                   f"--descriptor_set_out={target}", str(source)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, cwd=folder, check=False)
        except subprocess.TimeoutExpired:
            raise PrototxtError(f"protobuf's compiler did not finish within {SECONDS} s", path) from None
        if done.returncode or not target.is_file():
            raise _error(done.stderr.decode("utf-8", "replace"), path)
        files = descriptor_pb2.FileDescriptorSet()
        files.ParseFromString(target.read_bytes())
    return files.file[0]


def _error(output: str, path: str) -> PrototxtError:
    """Return what the compiler complained of first, with the file's own name."""
    found = re.search(r"^(?:.*/)?fork\.proto:(?:(\d+):(\d+):)? (?!warning)(.*)$", output, re.MULTILINE)
    if found is None:
        return PrototxtError(f"protobuf's compiler refuses it: {output.strip()[:200] or 'no reason given'}", path)
    place = f"{path}:{found.group(1)}:{found.group(2)}" if found.group(1) else path
    return PrototxtError(f"protobuf's compiler refuses it: {found.group(3).strip()}", place)


def _check_depth(schema: Schema, path: str) -> None:
    """Refuse messages that hold themselves, or a chain of more than `MAX_DEPTH`: a reader of them would not end."""
    depths: dict[str, int] = {}
    for start in schema.messages:
        open_: list[tuple[str, list[str]]] = [(start, schema.inner(start))] if start not in depths else []
        while open_:
            name, rest = open_[-1]
            if not rest:
                depths[name] = 1 + max((depths[inner] for inner in schema.inner(name)), default=0)
                if depths[name] > MAX_DEPTH:
                    raise PrototxtError(f"messages nest deeper than {MAX_DEPTH} in {name}", path)
                open_.pop()
                continue
            inner = rest.pop()
            if any(inner == above for above, _ in open_):
                raise PrototxtError(f"message {inner} holds itself, which no message of Caffe does", path)
            if inner not in depths:
                open_.append((inner, schema.inner(inner)))
