"""Text nets and solvers, and binary nets: read into specs, written from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrouscaffe.errors import PrototxtError
from atrouscaffe.formats.adopt import adopt
from atrouscaffe.formats.diagnose import complain, is_label_map
from atrouscaffe.formats.dialect import check_dialect, infer_text
from atrouscaffe.formats.downgrade import downgrade_net
from atrouscaffe.formats.fields import net_record, net_spec, to_fields, to_record
from atrouscaffe.formats.limited import read_at_most
from atrouscaffe.formats.protofile import read_proto
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import schema
from atrouscaffe.formats.text import fill_placeholders, format_record, parse_record
from atrouscaffe.formats.upgrade import upgrade_net, upgrade_solver
from atrouscaffe.spec import Fields, NetSpec

__all__ = ["parse_net", "parse_solver", "read_net", "read_net_binary", "read_solver", "read_text", "write_net",
           "write_solver"]

MAX_BYTES = 4 << 20
"""Largest text accepted; the largest published nets have under 1 MiB."""

PathLike = str | Path


def read_net(path: PathLike, *, variables: Mapping[str, object] | None = None, dialect: str | None = None,
             proto: PathLike | None = None) -> NetSpec:
    """Read a text net of any age and dialect.

    Parameters
    ----------
    path : str or Path
    variables : mapping, optional
        Values of ``${NAME}`` placeholders.
    dialect : str, optional
        What layers that differ between the forks go by; told from the text if not given.
    proto : str or Path, optional
        A fork's caffe.proto: fields that only it has may stand in the text. A layer that has one is refused when it
        is made, with what the text says of it.

    Returns
    -------
    NetSpec

    Raises
    ------
    PrototxtError
        What does not parse, with file, line and column.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    return parse_net(read_text(path), path=str(path), variables=variables, dialect=dialect, proto=proto)


def parse_net(text: str, *, path: str = "", variables: Mapping[str, object] | None = None,
              dialect: str | None = None, proto: PathLike | None = None) -> NetSpec:
    """Parse a text net; see `read_net`. `path` is named in errors and remembered in the spec."""
    check_dialect(dialect)
    if is_label_map(text):
        raise PrototxtError("expected a net, got a label map (the names of a detector's classes); "
                            "`atrouscaffe inspect` shows it", path)
    text = fill_placeholders(text, variables, path)
    if proto is None:
        record = parse_record(text, "NetParameter", path)
    else:
        record = adopt(parse_record(text, "NetParameter", path, schema().with_words_of(read_proto(proto))))
    return _net(record, dialect, path)


def _net(record: Record, dialect: str | None, path: str) -> NetSpec:
    for layer in (*record.get("layer", ()), *record.get("layers", ())):
        if layer.has("blobs") or (layer.has("layer") and layer.get("layer").has("blobs")):
            raise PrototxtError("a text net with `blobs` inside; keep weights in a .caffemodel and delete them here",
                                f"{layer.source}: layer '{layer.get('name', '')}'")
    dialect = dialect or infer_text(record)
    modern, notes = upgrade_net(record)
    return net_spec(modern, dialect, path, notes)


def read_net_binary(path: PathLike, dialect: str | None = None) -> NetSpec:
    """Read the net inside a binary NetParameter, with or without weights.

    Parameters
    ----------
    path : str or Path
    dialect : str, optional
        Wire dialect of the file; told from it if not given.

    Raises
    ------
    WeightsError
        Not a binary net.
    PrototxtError
        A net that contradicts itself.
    """
    from atrouscaffe.formats.caffemodel import read_caffemodel
    file = read_caffemodel(path, dialect=dialect)
    if file.net is None:
        raise PrototxtError(file.net_problem, str(path))
    return file.net


def read_solver(path: PathLike, *, variables: Mapping[str, object] | None = None) -> Fields:
    """Read a text solver.

    Returns
    -------
    Fields
        SolverParameter with its defaults. ``net_param`` and ``train_net_param`` are `NetSpec`
        (an empty one if absent), ``test_net_param`` a tuple of them. The old ``solver_type`` has
        become ``type``.

    Raises
    ------
    PrototxtError
        What does not parse, with file, line and column.
    """
    return parse_solver(read_text(path), path=str(path), variables=variables)


def parse_solver(text: str, *, path: str = "", variables: Mapping[str, object] | None = None) -> Fields:
    """Parse a text solver; see `read_solver`."""
    record = parse_record(fill_placeholders(text, variables, path), "SolverParameter", path)
    upgrade_solver(record)
    for name in ("net_param", "train_net_param", "test_net_param"):
        value = record.get(name)
        if isinstance(value, list):
            record.values[name] = [_net(net, None, path) for net in value]
        elif value is not None:
            record.values[name] = _net(value, None, path)
    return to_fields(record)


def write_net(net: NetSpec, dialect: str | None = None) -> str:
    """Write a net as text that its own Caffe reads.

    Parameters
    ----------
    net : NetSpec
    dialect : str, optional
        ``"v1"`` writes ``layers {}`` with ``hole``, the others ``layer {}`` with ``dilation``;
        the net's own if not given.

    Raises
    ------
    PrototxtError
        An option or layer type that v1 does not have.
    """
    dialect = check_dialect(dialect) or net.dialect
    record, lost = downgrade_net(net_record(net), dialect)
    if lost:
        raise PrototxtError(f"a {dialect} net cannot say {', '.join(lost)}; choose another dialect", net.path)
    return format_record(record)


def write_solver(solver: Fields) -> str:
    """Write a solver as text."""
    return format_record(_solver_record(solver))


def _solver_record(solver: Fields) -> Record:
    record = to_record(solver)
    for name in ("net_param", "train_net_param", "test_net_param"):
        value: Any = getattr(solver, name)
        if solver.has(name):
            specs = value if isinstance(value, tuple) else (value,)
            nets = [downgrade_net(net_record(net), net.dialect)[0] for net in specs]
            record.values[name] = nets if isinstance(value, tuple) else nets[0]
    return record


def read_text(path: PathLike) -> str:
    """Read a text net, solver or label map, at most `MAX_BYTES` of UTF-8."""
    path = Path(path)
    data = read_at_most(path, MAX_BYTES + 1)
    complain(path, "text", data[:4096], PrototxtError)
    if len(data) > MAX_BYTES:
        raise PrototxtError(f"a text of more than {MAX_BYTES >> 20} MiB is not a net", str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PrototxtError(f"expected UTF-8 text, got byte 0x{data[error.start]:02x} at offset {error.start}",
                            str(path)) from None
