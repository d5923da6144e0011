"""Binary caffemodels of every dialect: read without copying, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.errors import AtrousCaffeError, PrototxtError, WeightsError
from atrouscaffe.formats.adopt import adopt
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.diagnose import complain
from atrouscaffe.formats.dialect import Verdict, check_dialect, detect_wire, infer_text
from atrouscaffe.formats.downgrade import downgrade_net
from atrouscaffe.formats.encode import blob_parts, encode, wrap, write_parts
from atrouscaffe.formats.fields import net_record, net_spec
from atrouscaffe.formats.protofile import read_proto
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import schema
from atrouscaffe.formats.upgrade import V1_TYPES, upgrade_net
from atrouscaffe.formats.weightsfile import BlobRecord, LayerWeights, WeightsFile, check_shape
from atrouscaffe.formats.wire import BYTES, VARINT, FileBytes, Reader
from atrouscaffe.spec import NetSpec

__all__ = ["blob_record", "parse_caffemodel", "read_caffemodel", "write_caffemodel"]

_LAYERS, _LAYER = 2, 100
_LEGACY = ("num", "channels", "height", "width")


def read_caffemodel(path: str | Path, *, dialect: str | None = None, proto: str | Path | None = None) -> WeightsFile:
    """Read a binary NetParameter; the numbers of its blobs stay in the file until loaded.

    Parameters
    ----------
    path : str or Path
    dialect : str, optional
        Wire dialect of the file (see `formats.dialect`); told from its fields, layer types and
        values if not given.
    proto : str or Path, optional
        The caffe.proto of the fork that wrote it, whose numbers it is read by; `dialect` then says only what its
        layers go by.

    Returns
    -------
    WeightsFile

    Raises
    ------
    WeightsError
        Not a caffemodel (an HTML page, a Git-LFS pointer, text, ...), truncated or damaged; with
        the byte.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    check_dialect(dialect)
    return parse_caffemodel(FileBytes.open(path), dialect=dialect, proto=proto)


def parse_caffemodel(source: FileBytes, *, dialect: str | None = None, proto: str | Path | None = None) -> WeightsFile:
    """Read a NetParameter from bytes; see `read_caffemodel`."""
    complain(source.path, "protobuf", bytes(source.view[:4096]), WeightsError)
    if proto is not None:
        reader = Reader(source, read_proto(proto))
        record = adopt(reader.message("NetParameter"))
        verdict = Verdict(dialect or infer_text(record), f"numbers of {proto}")
    else:
        verdict = _detect(source) if dialect is None else Verdict(dialect, "as told")
        reader = Reader(source, schema(verdict.dialect))
        record = reader.message("NetParameter")
    layers = record.get("layer", []) + record.get("layers", [])
    if not layers:
        raise WeightsError(_no_layers(reader, verdict), source.path)
    if record.has("layer") and record.has("layers"):
        raise WeightsError("the file has both old `layers` and new `layer` messages: no Caffe writes that", source.path)
    net, problem = None, ""
    try:
        modern, notes = upgrade_net(record)
        net, layers = net_spec(modern, verdict.dialect, source.path, notes), modern.get("layer")
    except PrototxtError as error:
        problem = str(error)
    return WeightsFile(source.path, verdict.dialect, verdict.evidence, _weights(layers, source.path),
                       tuple(f"{name} ({times})" for name, times in sorted(reader.unknown.items())),
                       "caffemodel", net, problem)


def _detect(source: FileBytes) -> Verdict:
    """Look at types and field numbers only, with no schema, and tell the dialect."""
    reader = Reader(source, schema())
    seen: list[tuple[str, Any, dict[int, Any]]] = []
    for number, wire, _, begin, stop in reader.fields(0, len(source)):
        if wire != BYTES or number not in (_LAYERS, _LAYER):
            continue
        kind: Any = None
        fields: dict[int, Any] = {}
        for inner, inner_wire, value, start, end in reader.fields(begin, stop):
            if number == _LAYERS and inner == 5 and inner_wire == VARINT:
                kind = value
            elif number == _LAYER and inner == 2 and inner_wire == BYTES:
                kind = bytes(reader.view[start:min(end, start + 100)]).decode("utf-8", "replace")
            elif number == _LAYERS and inner == 10 and inner_wire == BYTES:
                fields[inner] = {n: v for n, w, v, _, _ in reader.fields(start, end) if w == VARINT}
            else:
                fields.setdefault(inner, None)
        seen.append(("layers" if number == _LAYERS else "layer", kind, fields))
    return detect_wire(seen)


def _no_layers(reader: Reader, verdict: Verdict) -> str:
    if any(name.startswith(("NetParameter.name of wire type 0", "NetParameter.1 ")) for name in reader.unknown):
        return "no layers in it; it looks like a mean file or a solver state (.binaryproto, .solverstate)"
    if reader.unknown:
        return f"no layers in it as dialect {verdict.dialect}, only unknown fields; is it another kind of file?"
    return "no layers in it; is it another kind of file?"


def _weights(layers: Sequence[Record], path: str) -> tuple[LayerWeights, ...]:
    out = []
    for layer in layers:
        inner = layer.get("layer") or layer
        name = inner.get("name", layer.get("name", ""))
        blobs = tuple(blob_record(blob, path, f"blob {i} of layer '{name}'")
                      for i, blob in enumerate(inner.get("blobs", []) or layer.get("blobs", [])))
        kind = layer.get("type", "")
        out.append(LayerWeights(name, V1_TYPES.get(kind, kind), blobs))
    return tuple(out)


def blob_record(blob: Record, path: str, what: str, error: type[AtrousCaffeError] = WeightsError,
                field: str = "data") -> BlobRecord:
    """Check a BlobProto and make a BlobRecord of it.

    As in Caffe, doubles win over floats, and ``shape`` over num, channels, height and width.

    Parameters
    ----------
    blob : Record
    path, what : str
        Named in errors.
    error : type, optional
        The error to raise.
    field : {"data", "diff"}

    Raises
    ------
    error
        A shape that does not hold the numbers that are there.
    """
    double, single = blob.get(f"double_{field}"), blob.get(field)
    numbers = double if double is not None and len(double) else single
    count = 0 if numbers is None else len(numbers)
    place = f"{what} (byte {numbers.offset})" if numbers is not None and count else what
    if blob.has("shape"):
        dims = blob.get("shape").get("dim", [])
    elif any(blob.has(name) for name in _LEGACY):
        dims = [blob.get(name, 0) for name in _LEGACY]
    else:
        dims = [] if count == 1 else [0]
    shape = check_shape(dims, count, path, place, error)
    if numbers is None:
        return BlobRecord(shape, 0, "float32", lambda: np.zeros(0, np.float32))
    return BlobRecord(shape, count, "float64" if numbers.dtype == "<f8" else "float32", numbers.load)


Arrays = Mapping[str, Sequence[np.ndarray]] | Sequence[Sequence[np.ndarray]]


def write_caffemodel(path: str | Path, net: NetSpec, params: Arrays, *, dialect: str = "bvlc",
                     diffs: Arrays | None = None) -> tuple[str, ...]:
    """Write a net with its weights, whole or not at all.

    Parameters
    ----------
    path : str or Path
    net : NetSpec
    params : mapping of str to sequence of ndarray, or sequence of sequence of ndarray
        Blobs by layer name (the first layer of a name takes them), or those of each layer of `net` in its order;
        float32 or float64 (float64 is kept; v1 has float32 only).
    dialect : str, optional
        Wire dialect. ``"bvlc"`` is what OpenCV and every later Caffe read; ``"v1"`` writes
        ``layers`` and four-dimensional blobs.
    diffs : as `params`, optional
        Gradients to write beside the blobs (``snapshot_diff``).

    Returns
    -------
    tuple of str
        Options of the net that the dialect has no field for; they are not in the file.

    Raises
    ------
    WeightsError
        Weights for a layer that the net does not have, or v1 blobs of more than four dimensions.
    FileAccessError
        The file cannot be written.
    """
    check_dialect(dialect)
    record, missing = downgrade_net(net_record(net), dialect)
    lost = set(missing)
    field = "layers" if dialect == "v1" else "layer"
    layers = record.values.pop(field, [])
    words = schema(dialect)
    number, blobs_number = words["NetParameter"].by_name[field].number, _blobs_number(words, field)
    head = encode(record, words, lost)
    bodies = []
    blobs_of = _in_order(layers, net, params, str(path))
    diffs_of = None if diffs is None else _in_order(layers, net, diffs, str(path))
    for k, layer in enumerate(layers):
        parts: list[Any] = [encode(layer, words, lost)]
        for i, blob in enumerate(blobs_of[k]):
            diff = None if diffs_of is None else np.asarray(diffs_of[k][i])
            parts += wrap(blobs_number, blob_parts(np.asarray(blob), legacy=dialect == "v1", diff=diff))
        bodies.append(parts)
    with atomic_write(path) as file:
        file.write(head)
        for parts in bodies:
            write_parts(file, list(wrap(number, parts)))
    return tuple(sorted(lost))


def _in_order(layers: Sequence[Record], net: NetSpec, arrays: Arrays, path: str) -> list[Sequence[np.ndarray]]:
    """Return the arrays of each record, from those by name or those of the net's layers in order."""
    queues: dict[str, list[Sequence[np.ndarray]]] = {}
    if isinstance(arrays, Mapping):
        queues = {name: [blobs] for name, blobs in arrays.items()}
    else:
        for spec, blobs in zip(net.layers, arrays, strict=True):
            queues.setdefault(spec.name, []).append(blobs)
    names = {layer.get("name", "") for layer in layers}
    strange = [name for name, queue in queues.items() if any(map(len, queue)) and name not in names]
    if strange:
        raise WeightsError(f"weights for layers that the net does not have: {', '.join(map(repr, strange[:10]))}", path)
    return [queue.pop(0) if (queue := queues.get(layer.get("name", ""))) else () for layer in layers]


def _blobs_number(words: Any, field: str) -> int:
    return words["V1LayerParameter" if field == "layers" else "LayerParameter"].by_name["blobs"].number
