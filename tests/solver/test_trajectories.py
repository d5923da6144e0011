"""The recorded training runs of the original programs, weight by weight and iteration by iteration."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from atrouscaffe import get_solver
from tests.conftest import ORACLE
from tests.oracle_exceptions import NOT_KEPT_SOLVERS

FOLDERS = {folder.name: folder for folder in sorted((ORACLE / "solver").iterdir())}
KEPT = [name for name in FOLDERS if name not in NOT_KEPT_SOLVERS]


def snapshots(folder):
    return sorted(path.name for path in folder.glob("snap*solverstate*"))


ON_DEVICE = ["v1_sgd_shared", "v2_sgd_shared", "v2_sgd_l1", "v2_sgd_mults", "v2_sgd_iter_size3_clip", "v2_sgd_lr0",
             "v1_nesterov_v1", "v2_adagrad_delta", "v2_rmsprop", "v2_adadelta", "v2_adam"]
"""Runs repeated on other devices: each rule, and whatever goes through the updater in a way of its own."""
RESUMED = [(name, state) for name in KEPT for state in snapshots(FOLDERS[name])]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that makes a case's solver in a copy of its folder."""
    def make(name, **options):
        folder = tmp_path / name
        shutil.copytree(FOLDERS[name], folder)
        monkeypatch.chdir(folder)
        about = json.loads((folder / "case.json").read_text())
        solver = get_solver("solver.prototxt", dialect=about["dialect"], log=lambda line: None, **options)
        solver.net.copy_from("init.caffemodel")
        with np.load("trajectory.npz") as arrays:
            return solver, {key: arrays[key] for key in arrays.files}
    return make


def compare(solver, recorded, kind, iteration):
    found = 0
    for key, expected in recorded.items():
        if key.startswith(f"{kind}:{iteration}:"):
            _, _, layer, index = key.split(":")
            ours = solver.net.params[layer][int(index)].data
            difference = np.abs(ours.ravel() - expected.ravel()).max()
            assert difference <= 1e-5 * np.abs(expected).max(), f"{key}: {difference}"
            found += 1
    assert found, f"nothing was recorded for iteration {iteration}"


@pytest.mark.parametrize("name", KEPT)
def test_trajectory_equals_the_recording(name, run):
    solver, recorded = run(name)
    compare(solver, recorded, "w", 0)
    losses = []
    solver.listeners.append(lambda event: losses.append(event.loss))
    for iteration in range(1, 9):
        solver.step(1)
        assert solver.iter == iteration
        compare(solver, recorded, "w", iteration)
    if "loss" in recorded and solver.param.iter_size == 1:
        np.testing.assert_allclose(losses, recorded["loss"].ravel(), rtol=1e-5)


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
@pytest.mark.parametrize("name", ON_DEVICE)
def test_trajectory_on_a_device_equals_the_recording(name, run, device):
    solver, recorded = run(name, device=device)
    for iteration in range(1, 9):
        solver.step(1)
        compare(solver, recorded, "w", iteration)


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
@pytest.mark.parametrize(("name", "state"), [("v2_adam", "snap_iter_4.solverstate"),
                                             ("v2_adadelta", "snap_h5_iter_4.solverstate.h5")])
def test_run_resumed_on_a_device_equals_the_recording(name, state, run, device):
    solver, recorded = run(name, device=device)
    solver.restore(state)
    for iteration in range(5, 9):
        solver.step(1)
        compare(solver, recorded, "resume", iteration)


@pytest.mark.parametrize(("name", "state"), RESUMED)
def test_run_resumed_from_the_originals_snapshot_equals_the_recording(name, state, run):
    solver, recorded = run(name)
    solver.restore(state)
    assert solver.iter == 4
    compare(solver, recorded, "w", 4)
    if name.startswith("v1"):  # resumed only in the second fork, whose run of the same name is the same
        with np.load(FOLDERS["v2" + name[2:]] / "trajectory.npz") as arrays:
            recorded = {key: arrays[key] for key in arrays.files}
    for iteration in range(5, 9):
        solver.step(1)
        compare(solver, recorded, "resume", iteration)


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("name", ["v1_nesterov_v1", "v2_adam", "v2_adadelta"])
def test_our_snapshot_says_what_the_originals_says(name, form, run, tmp_path):
    import dataclasses

    from atrouscaffe.formats.solverstate import read_solverstate

    solver, _ = run(name)
    theirs = read_solverstate("snap_iter_4.solverstate")
    solver.param = dataclasses.replace(solver.param, snapshot_prefix="ours", snapshot_format=form)
    solver.step(4)
    ours = read_solverstate(solver.snapshot())
    assert (ours.iter, ours.current_step, len(ours.history)) == (theirs.iter, theirs.current_step, len(theirs.history))
    for a, b in zip(ours.history, theirs.history):
        assert np.abs(a.ravel() - b.ravel()).max() <= 1e-5 * max(np.abs(b).max(), 1e-30)


def test_exceptions_are_few_and_real():
    defects = {name for name, folder in FOLDERS.items() if json.loads((folder / "case.json").read_text()).get("defect")}
    assert len(FOLDERS) == 43
    assert set(NOT_KEPT_SOLVERS) <= defects
    assert len(RESUMED) >= 10
