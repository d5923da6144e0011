"""Solver states: iteration, name of the weights, learning-rate step, history blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.errors import SolverError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.caffemodel import blob_record
from atrouscaffe.formats.diagnose import complain
from atrouscaffe.formats.encode import blob_parts, encode, wrap, write_parts
from atrouscaffe.formats.hdf5 import dataset_record, get_member, guard, new_hdf5, open_hdf5
from atrouscaffe.formats.record import Record
from atrouscaffe.formats.schema import schema
from atrouscaffe.formats.weights import is_hdf5_name
from atrouscaffe.formats.wire import FileBytes, Reader

__all__ = ["SolverState", "read_solverstate", "write_solverstate"]

MAX_HISTORY = 1_000_000
MAX_NAME = 65536


@dataclass(frozen=True)
class SolverState:
    """What a solver needs, besides the weights, to go on.

    Attributes
    ----------
    iter : int
    learned_net : str
        File of the weights, as the solver named it.
    current_step : int
    history : tuple of ndarray, float32
        As many blobs as the update rule keeps, in its order.
    """

    iter: int
    learned_net: str
    current_step: int
    history: tuple[np.ndarray, ...]


def read_solverstate(path: str | Path) -> SolverState:
    """Read a ``.solverstate`` or ``.solverstate.h5`` file.

    Raises
    ------
    SolverError
        Another kind of file, truncated or damaged.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    return _read_hdf5(path) if is_hdf5_name(path) else _read_binary(path)


def _read_binary(path: str | Path) -> SolverState:
    source = FileBytes.open(path)
    complain(path, "protobuf", bytes(source.view[:4096]), SolverError)
    record = Reader(source, schema("bvlc"), SolverError).message("SolverState")
    if not record.has("iter"):
        raise SolverError("expected a solver state, got a file without an iteration; is it another kind of file?",
                          str(path))
    history = [blob_record(blob, str(path), f"history blob {i}", SolverError).load()
               for i, blob in enumerate(record.get("history", []))]
    return _checked(record.get("iter"), record.get("learned_net", ""), record.get("current_step", 0), history, path)


def _checked(iteration: int, learned: str, step: int, history: Sequence[np.ndarray], path: str | Path) -> SolverState:
    if iteration < 0 or step < 0:
        raise SolverError(f"the iteration is {iteration} and the step {step}; neither can be negative", str(path))
    return SolverState(iteration, learned, step, tuple(history))


def _read_hdf5(path: str | Path) -> SolverState:
    place = str(path)
    with guard(path, SolverError), open_hdf5(path, SolverError) as file:
        if "iter" not in file or "history" not in file:
            raise SolverError("expected 'iter' and 'history' in the file; is it another kind of HDF5 file?", place)
        iteration = _integer(file, "iter", place)
        step = _integer(file, "current_step", place) if "current_step" in file else 0
        learned = _text(file, "learned_net", place) if "learned_net" in file else ""
        group = get_member(file, "history", place, SolverError)
        count = len(group)
        if count > MAX_HISTORY:
            raise SolverError(f"{count} history blobs: not a solver state", place)
        history = []
        for i in range(count):
            if str(i) not in group:
                raise SolverError(f"the {count} history blobs should be numbered from 0; there is no {i}", place)
            blob = get_member(group, str(i), place, SolverError)
            history.append(dataset_record(blob, place, f"history blob {i}", SolverError).load())
    return _checked(iteration, learned, step, history, path)


def _member_value(file: Any, name: str, path: str) -> Any:
    dataset = get_member(file, name, path, SolverError)
    if dataset.size != 1 or dataset.external or dataset.is_virtual or dataset.dtype.itemsize > MAX_NAME:
        raise SolverError(f"'{name}' should be one value", path)
    return dataset[()]


def _integer(file: Any, name: str, path: str) -> int:
    value = np.asarray(_member_value(file, name, path)).reshape(-1)
    if value.size != 1 or value.dtype.kind not in "iu":
        raise SolverError(f"'{name}' should be an integer, got {value.dtype}", path)
    return int(value[0])


def _text(file: Any, name: str, path: str) -> str:
    value = _member_value(file, name, path)
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        raise SolverError(f"'{name}' should be text", path)
    return value


def write_solverstate(path: str | Path, state: SolverState) -> None:
    """Write a solver state, whole or not at all; HDF5 if the name ends in .h5 or .hdf5.

    Raises
    ------
    FileAccessError
        The file cannot be written.
    """
    if is_hdf5_name(path):
        _write_hdf5(path, state)
        return
    words = schema("bvlc")
    number = words["SolverState"].by_name["history"].number
    head = Record("SolverState", {"iter": state.iter, "learned_net": state.learned_net})
    tail = Record("SolverState", {"current_step": state.current_step})
    with atomic_write(path) as file:
        file.write(encode(head, words))
        for blob in state.history:
            write_parts(file, list(wrap(number, blob_parts(np.asarray(blob), legacy=False))))
        file.write(encode(tail, words))


def _write_hdf5(path: str | Path, state: SolverState) -> None:
    import h5py
    with new_hdf5(path) as file:
        file.create_dataset("iter", data=np.array([state.iter], np.int32))
        file.create_dataset("learned_net", data=state.learned_net.encode(),
                            dtype=h5py.string_dtype("ascii", len(state.learned_net.encode()) + 1))
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        group = file.create_group("history")
        for i, blob in enumerate(state.history):
            group.create_dataset(str(i), data=np.asarray(blob, np.float32))
