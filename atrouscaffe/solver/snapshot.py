"""Snapshots: Caffe's caffemodel and solverstate, and beside them what Caffe forgets.

``PREFIX_iter_N.caffemodel``, ``PREFIX_iter_N.solverstate`` (or both with ``.h5``) are Caffe's own
formats. ``PREFIX_iter_N.solverstate.json`` holds the positions of the data layers, the random streams
and the sums by which a torn set is told from a whole one. Each file is written whole or not at all,
the solverstate last: where it is, the others are.

Source: ``Solver::Snapshot``, ``SGDSolver::SnapshotSolverState`` and ``Restore`` of BVLC Caffe.
"""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atrouscaffe.errors import AtrousCaffeError, FileAccessError, FileMissingError, SolverError
from atrouscaffe.formats import written
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.solverstate import SolverState, read_solverstate, write_solverstate
from atrouscaffe.formats.weights import open_weights
from atrouscaffe.solver.policy import current_step

if TYPE_CHECKING:
    from atrouscaffe.solver.solver import Solver

__all__ = ["check_prefix", "newest", "prefix", "restore", "write"]

FORMAT = 1
MAX_SIDE_BYTES = 64 << 20
_NAME = re.compile(r"_iter_(\d{1,10})\.solverstate(\.h5)?")


@dataclass(frozen=True)
class _Snapshot:
    """A snapshot that was read and found whole."""

    state: SolverState
    weights: Path | None
    side: dict[str, Any] | None


# -- names ----------------------------------------------------------------------------------------

def prefix(solver: Solver) -> str:
    """Return ``snapshot_prefix`` as an absolute path, from the working folder as in Caffe.

    Without one it is the solver file's name without its suffix; a folder gets that name added.

    Raises
    ------
    SolverError
        There is neither.
    DataError
        It leads out of the allowed folders.
    """
    spec = solver.param
    if not spec.snapshot_prefix and not spec.path:
        raise SolverError("snapshot_prefix: expected a path for snapshots, got none")
    name = spec.snapshot_prefix or str(Path(spec.path).with_suffix(""))
    resolved = solver.paths.resolve(os.path.abspath(name), "snapshot_prefix")
    if os.path.isdir(resolved):
        resolved = os.path.join(resolved, Path(spec.path).stem or "snapshot")
    return resolved


def check_prefix(solver: Solver) -> None:
    """Make the folder of the snapshots and see that files can be made in it.

    Temporary files that a killed run with this prefix left behind are removed.

    Raises
    ------
    FileAccessError
        They cannot.
    """
    stem = Path(prefix(solver))
    folder = stem.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{glob.escape(stem.name)}_iter_*.tmp"):
            left.unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        raise FileAccessError(f"snapshot_prefix: {folder} cannot be written ({error.strerror}), so nothing that is "
                              "learned could be kept; name another prefix or free the folder",
                              solver.param.path) from error


def check_names(solver: Solver) -> None:
    """See that no snapshot still to come would replace a file that must stay (`formats.written`).

    Raises
    ------
    FileAccessError
        One would; better now than after hours of training.
    """
    every, last = solver.param.snapshot, solver.param.max_iter
    coming = {*range((solver.iter // every + 1) * every, last + 1, every)} if every else set()
    for iteration in sorted(n for n in {*coming, last} if n > solver.iter):
        for path in _paths(solver, iteration):
            written.check(path)


def _paths(solver: Solver, iteration: int) -> tuple[Path, Path, Path]:
    """Return where the weights, what Caffe's state has no room for, and the state of an iteration go."""
    suffix = ".h5" if solver.param.snapshot_format == "HDF5" else ""
    stem = f"{prefix(solver)}_iter_{iteration}"
    state = Path(f"{stem}.solverstate{suffix}")
    return Path(f"{stem}.caffemodel{suffix}"), _side(state), state


def _side(path: str | Path) -> Path:
    return Path(f"{path}.json")


# -- writing --------------------------------------------------------------------------------------

def write(solver: Solver) -> str:
    """Write the snapshot of a solver's present iteration; return the solverstate's path.

    Raises
    ------
    FileAccessError
        A file cannot be written; those that this call made are gone again.
    """
    weights, side, state = _paths(solver, solver.iter)
    fresh = [path for path in (weights, side, state) if not path.exists()]
    histories = _histories(solver)
    try:
        solver.net.save(weights, diffs=solver.param.snapshot_diff)
        with atomic_write(side) as file:
            file.write(json.dumps(_side_content(solver, weights, histories), indent=1).encode())
        write_solverstate(state, SolverState(solver.iter, str(weights), current_step(solver.param, solver.iter),
                                             tuple(histories)))
    except BaseException:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise
    solver.log(f"Snapshotting to {weights} and {state}")
    return str(state)


def _histories(solver: Solver) -> list[np.ndarray]:
    """Return the histories in the original's order: the first one of every parameter, then the second ones."""
    kinds = zip(*solver.updater.histories)
    return [entry.blob.backend.to_numpy(history) for kind in kinds
            for entry, history in zip(solver.updater.learnable, kind)]


def _side_content(solver: Solver, weights: Path, histories: Sequence[np.ndarray]) -> dict[str, Any]:
    return {
        "format": FORMAT, "iteration": solver.iter, "solver": _numbers(solver), "parameters": _parameters(solver),
        "caffemodel": {"name": weights.name, "bytes": weights.stat().st_size, "crc32": _file_crc(weights)},
        "history_crc32": _arrays_crc(histories), "losses": solver._losses,
        "train": solver.net.state(), "tests": [net.state() for net in solver.test_nets]}


def _numbers(solver: Solver) -> dict[str, Any]:
    """Return the solver's fields that steer the course, in JSON's types."""
    spec = solver.param
    names = ("type", "base_lr", "lr_policy", "gamma", "power", "stepsize", "stepvalue", "max_iter", "iter_size",
             "momentum", "momentum2", "rms_decay", "delta", "weight_decay", "regularization_type", "clip_gradients")
    return {name: list(value) if isinstance(value := getattr(spec, name), tuple) else value for name in names}


def _parameters(solver: Solver) -> list[list[Any]]:
    return [[entry.layer, entry.index, list(entry.blob.shape)] for entry in solver.updater.learnable]


def _file_crc(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def _arrays_crc(arrays: Sequence[np.ndarray]) -> int:
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array, np.float32).reshape(-1).data, crc)
    return crc


# -- reading --------------------------------------------------------------------------------------

def newest(stem: str, log: Callable[[str], None]) -> str | None:
    """Return the solverstate of the newest whole snapshot with prefix `stem`, None if there is none.

    Parameters
    ----------
    stem : str
        From `prefix`.
    log : callable of str
        Told of each newer snapshot that is not whole, and why.
    """
    folder, name = os.path.split(stem)
    found = []
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        match = _NAME.fullmatch(entry[len(name):]) if entry.startswith(name) else None
        if match:
            found.append((int(match[1]), os.path.getmtime(os.path.join(folder, entry)), os.path.join(folder, entry)))
    for _, _, path in sorted(found, reverse=True):
        try:
            _read(path, lambda learned: Path(learned))
        except AtrousCaffeError as error:
            log(f"not whole, so an older snapshot is looked for: {error}")
            continue
        return path
    return None


def _read(path: str | Path, elsewhere: Callable[[str], Path]) -> _Snapshot:
    """Read a solverstate, find its weights and its side file, and check that they belong together."""
    state = read_solverstate(path)
    side = _read_side(path)
    weights = None
    if state.learned_net:
        beside = Path(path).parent / os.path.basename(state.learned_net)
        weights = beside if beside.exists() else elsewhere(state.learned_net)
        if not weights.exists():
            raise FileMissingError(f"the weights {state.learned_net} that belong to it are neither there nor beside it",
                                   str(path))
    if side is not None and weights is not None:
        said = side["caffemodel"]
        if weights.stat().st_size != said["bytes"] or _file_crc(weights) != said["crc32"]:
            raise SolverError(f"{weights} is not the file that was written with it (size or sum differ)", str(path))
        if state.iter != side["iteration"] or _arrays_crc(state.history) != side["history_crc32"]:
            raise SolverError(f"it does not belong to {_side(path).name} (iteration or sum of the histories differ)",
                              str(path))
    elif weights is not None:
        open_weights(weights)
    return _Snapshot(state, weights, side)


def _read_side(path: str | Path) -> dict[str, Any] | None:
    """Return the content of our own file, None if there is none."""
    name = _side(path)
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_SIDE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileAccessError(f"cannot read {name}: {error.strerror}") from error
    wanted = {"format": int, "iteration": int, "solver": dict, "parameters": list, "caffemodel": dict,
              "history_crc32": int, "losses": list, "train": dict, "tests": list}
    try:
        side = json.loads(data) if len(data) <= MAX_SIDE_BYTES else None
    except (ValueError, RecursionError):
        side = None
    if not isinstance(side, dict) or side.get("format") != FORMAT or any(
            not isinstance(side.get(key), kind) for key, kind in wanted.items()) or not all(
            isinstance(side["caffemodel"].get(key), int) for key in ("bytes", "crc32")):
        raise SolverError(f"expected the JSON of a snapshot (format {FORMAT}); delete the file to start the data at "
                          "its first row", str(name))
    return side


def restore(solver: Solver, path: str | Path) -> None:
    """Bring a solver to a snapshot.

    Raises
    ------
    SolverError, WeightsError
        Damaged, torn, or of another net or solver; nothing was changed.
    """
    found = _read(path, lambda learned: Path(solver.paths.resolve(learned, "learned_net")))
    flat = _check(solver, found, str(path))
    if found.weights is not None:
        solver.net.copy_from(found.weights)
    count = len(solver.updater.learnable)
    for i, array in enumerate(flat):
        target = solver.updater.histories[i % count][i // count]
        if array.any() or solver.updater.learnable[i % count].lr_mult:  # else its zeros are untouched memory
            with solver.net.backend.active():
                target[...] = solver.net.backend.asarray(array.reshape(target.shape))
    solver._iteration = found.state.iter
    if found.side is not None:
        _take_side(solver, found.side, str(_side(path)))
    else:
        solver._losses = []
        solver.log(f"{path} has no {_side(path).name} beside it: the data starts at its first row")


def _check(solver: Solver, found: _Snapshot, path: str) -> Sequence[np.ndarray]:
    """Return the histories; raise with what differs where they are another net's or solver's."""
    if found.side is not None:
        if found.side["solver"].get("type") != solver.param.type:
            raise SolverError(f"a snapshot of another solver: expected type {solver.param.type}, "
                              f"got {found.side['solver'].get('type')}", path)
        ours, theirs = _parameters(solver), found.side["parameters"]
        if ours != theirs:
            differing = [f"expected {a}, got {b}" for a, b in zip(ours, theirs) if a != b]
            more = differing[0] if differing else f"expected {len(ours)} parameters, got {len(theirs)}"
            raise SolverError(f"a snapshot of another net: (layer, index, shape) {more}", path)
    wanted = [entry.blob.shape for _ in range(len(solver.updater.histories[0]) if solver.updater.histories else 0)
              for entry in solver.updater.learnable]
    got = [array.shape for array in found.state.history]
    if len(wanted) != len(got):
        raise SolverError(f"a snapshot of another net or solver: expected {len(wanted)} history blobs for "
                          f"{solver.param.type} and {len(solver.updater.learnable)} parameters, got {len(got)}", path)
    for i, (a, b) in enumerate(zip(wanted, got)):
        if _core(a) != _core(b):
            raise SolverError(f"a snapshot of another net: history blob {i}, expected shape {tuple(a)}, got {tuple(b)}",
                              path)
    return found.state.history


def _core(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape without the ones in front that legacy blobs have."""
    first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    return tuple(shape[first:])


def _take_side(solver: Solver, side: dict[str, Any], path: str) -> None:
    before, now = side["solver"], _numbers(solver)
    for name, value in now.items():
        if before.get(name) != value:
            solver.log(f"{name} was {before.get(name)} when the snapshot was taken, and is {value} now")
    try:
        solver.net.set_state(side["train"])
        for net, state in zip(solver.test_nets, side["tests"]):
            net.set_state(state)
        solver._losses = [float(loss) for loss in side["losses"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SolverError(f"the positions of the data layers cannot be taken back ({error}); delete the file to start "
                          "the data at its first row", path) from error
