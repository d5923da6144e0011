"""What a solver file said, checked.

Source: ``SolverParameter`` of ``caffe.proto``; ``Solver::InitTrainNet``, ``InitTestNets`` and
``SGDSolver::PreSolve`` of BVLC Caffe.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrouscaffe.errors import SolverError, nearest
from atrouscaffe.spec import Fields, NetSpec, Phase

__all__ = ["SOLVER_TYPES", "NetSource", "SolverSpec", "read_spec"]

SOLVER_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
POLICY_NEEDS = {"fixed": (), "step": ("gamma", "stepsize"), "exp": ("gamma",), "inv": ("gamma", "power"),
                "multistep": ("gamma", "stepvalue"), "poly": ("power", "max_iter"), "sigmoid": ("gamma", "stepsize")}
"""Learning-rate policies, and the fields without which each is undefined."""


@dataclass(frozen=True)
class NetSource:
    """Where one net of a solver comes from, and the state that the solver adds to the net's own.

    Attributes
    ----------
    net : str or NetSpec
        Path as the solver file has it, or the net itself (``net_param``).
    field : str
        Field that named it, for errors.
    phase : Phase
    level : int or None
        None leaves the net's own.
    stages : tuple of str
        Beside the net's own.
    """

    net: str | NetSpec
    field: str
    phase: Phase
    level: int | None = None
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class SolverSpec:
    """A solver file's fields with Caffe's names and defaults; frozen and checked.

    Attributes
    ----------
    train : NetSource
    tests : tuple of NetSource
        One for each entry of `test_iter`.
    path : str
        The file, "" for text.

    The others bear the names of ``SolverParameter``. ``random_seed`` is None where the file gives
    none (or -1).
    """

    train: NetSource
    tests: tuple[NetSource, ...] = ()
    path: str = ""
    type: str = "SGD"
    base_lr: float = 0.0
    lr_policy: str = "fixed"
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalue: tuple[int, ...] = ()
    max_iter: int = 0
    iter_size: int = 1
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    weight_decay: float = 0.0
    regularization_type: str = "L2"
    clip_gradients: float = -1.0
    test_iter: tuple[int, ...] = ()
    test_interval: int = 0
    test_compute_loss: bool = False
    test_initialization: bool = True
    display: int = 0
    average_loss: int = 1
    debug_info: bool = False
    snapshot: int = 0
    snapshot_prefix: str = ""
    snapshot_diff: bool = False
    snapshot_format: str = "BINARYPROTO"
    snapshot_after_train: bool = True
    layer_wise_reduce: bool = True
    random_seed: int | None = None
    weights: tuple[str, ...] = ()


_COPIED = [field.name for field in dataclasses.fields(SolverSpec)
           if field.name not in ("train", "tests", "path", "random_seed")]


def read_spec(source: Any, variables: Mapping[str, object] | None = None, *, type: str = "") -> SolverSpec:
    """Read and check a solver.

    Parameters
    ----------
    source : path, Fields, SolverSpec, or text that contains a line break
    variables : mapping, optional
        Values of ``${NAME}`` placeholders.
    type : str, optional
        Solver type instead of the file's.

    Raises
    ------
    PrototxtError, FileMissingError, FileAccessError
        What cannot be read.
    SolverError
        Fields that are missing, contradict each other or are out of range.
    """
    if isinstance(source, SolverSpec):
        return dataclasses.replace(source, type=type or source.type)
    path = ""
    if not isinstance(source, Fields):
        from atrouscaffe.formats.prototxt import parse_solver, read_solver

        if isinstance(source, str) and "\n" in source:
            source = parse_solver(source, variables=variables)
        else:
            path = str(source)
            source = read_solver(Path(path), variables=variables)
    if source.all_unknown():
        raise SolverError(f"expected fields that this program knows, but {source.all_unknown()[0]}", path)
    if source.eval_type != "classification" and len(source.test_iter):
        raise SolverError(f"eval_type: expected 'classification' (the mean of the outputs), got {source.eval_type!r}, "
                          "which test nets of SSD compute; train without test_iter", path)
    values = {name: getattr(source, name) for name in _COPIED}
    values["type"] = type or source.type
    if not source.has("lr_policy"):
        raise SolverError(f"lr_policy: expected one of {', '.join(POLICY_NEEDS)}, got none", path)
    seed = source.random_seed
    spec = SolverSpec(train=_train_source(source, path), tests=_test_sources(source, path), path=path,
                      random_seed=seed if seed >= 0 else None, **values)
    _check(spec, source)
    return spec


def _state(state: Fields, phase: Phase) -> dict[str, Any]:
    return {"phase": Phase[state.phase] if state.has("phase") else phase,
            "level": state.level if state.has("level") else None, "stages": tuple(state.stage)}


def _train_source(fields: Fields, path: str) -> NetSource:
    """Return the one train net (``Solver::InitTrainNet``)."""
    given = [name for name in ("train_net_param", "train_net", "net_param", "net") if fields.has(name)]
    if len(given) != 1:
        raise SolverError("expected exactly one of net, net_param, train_net and train_net_param, "
                          f"got {' and '.join(given) or 'none'}", path)
    return NetSource(getattr(fields, given[0]), given[0], **_state(fields.train_state, Phase.TRAIN))


def _test_sources(fields: Fields, path: str) -> tuple[NetSource, ...]:
    """Return a source for each ``test_iter``: test_net_param, test_net, then net or net_param (``InitTestNets``)."""
    nets: list[tuple[str | NetSpec, str]] = [(net, "test_net_param") for net in fields.test_net_param]
    nets += [(name, "test_net") for name in fields.test_net]
    generic = next((name for name in ("net_param", "net") if fields.has(name)), None)
    wanted = len(fields.test_iter)
    if generic is not None:
        nets += [(getattr(fields, generic), generic)] * (wanted - len(nets))
    if len(nets) != wanted:
        raise SolverError(f"test_iter: expected one entry for each of the {len(nets)} test nets, got {wanted}", path)
    states = fields.test_state
    if states and len(states) != wanted:
        raise SolverError(f"test_state: expected none or one for each of the {wanted} test nets, got {len(states)}",
                          path)
    if wanted and fields.test_interval < 1:
        raise SolverError(f"test_interval: expected at least 1, since there are test nets, got {fields.test_interval}",
                          path)
    return tuple(NetSource(net, name, **(_state(states[i], Phase.TEST) if states else {"phase": Phase.TEST}))
                 for i, (net, name) in enumerate(nets))


def _check(spec: SolverSpec, fields: Fields) -> None:
    """Raise SolverError where a value is out of range."""
    def fail(message: str) -> None:
        raise SolverError(message, spec.path)

    if spec.type not in SOLVER_TYPES:
        fail(f"type: expected one of {', '.join(SOLVER_TYPES)}, got {spec.type!r}"
             f"{nearest(spec.type, SOLVER_TYPES, cutoff=0.4)}")
    if spec.lr_policy not in POLICY_NEEDS:
        fail(f"lr_policy: expected one of {', '.join(POLICY_NEEDS)}, got {spec.lr_policy!r}"
             f"{nearest(spec.lr_policy, POLICY_NEEDS, cutoff=0.4)}")
    for name in ("base_lr", *POLICY_NEEDS[spec.lr_policy]):
        if not fields.has(name):
            fail(f"lr_policy {spec.lr_policy!r} needs {name}, which is not given")
    for policy, name in (("inv", "gamma"), ("poly", "power")):
        if spec.lr_policy == policy and getattr(spec, name) < 0:
            fail(f"{name}: expected at least 0 for lr_policy {policy!r}, got {getattr(spec, name)}")
    if "stepsize" in POLICY_NEEDS[spec.lr_policy] and spec.stepsize < 1:
        fail(f"stepsize: expected at least 1, got {spec.stepsize}")
    if list(spec.stepvalue) != sorted(spec.stepvalue):
        fail(f"stepvalue: expected ascending iterations, got {', '.join(map(str, spec.stepvalue))}")
    if spec.regularization_type not in ("L1", "L2"):
        fail(f"regularization_type: expected L1 or L2, got {spec.regularization_type!r}")
    for name in ("base_lr", "gamma", "power", "momentum", "momentum2", "rms_decay", "delta", "weight_decay",
                 "clip_gradients"):
        if not math.isfinite(getattr(spec, name)):
            fail(f"{name}: expected a finite number, got {getattr(spec, name)}")
    for name, least in (("iter_size", 1), ("average_loss", 1), ("max_iter", 0), ("display", 0), ("snapshot", 0),
                        ("test_interval", 0)):
        if getattr(spec, name) < least:
            fail(f"{name}: expected at least {least}, got {getattr(spec, name)}")
    if any(n < 1 for n in spec.test_iter):
        fail(f"test_iter: expected at least 1 batch a test, got {min(spec.test_iter)}")
    if spec.type in ("AdaGrad", "RMSProp") and spec.momentum:
        fail(f"momentum: {spec.type} has none, got {spec.momentum}; leave it out")
    if spec.type == "RMSProp" and not 0 <= spec.rms_decay < 1:
        fail(f"rms_decay: expected a number from 0 to below 1, got {spec.rms_decay}")
