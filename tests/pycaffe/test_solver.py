"""caffe's solvers: solving, stepping, updates, snapshots, nets that outlive them."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import atrouscaffe.pycaffe as caffe
from tests.pycaffe.nets import simple


@pytest.fixture
def solver_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(simple())
    path = tmp_path / "solver.prototxt"
    path.write_text(f"""net: '{tmp_path}/net.prototxt' test_iter: 3 test_interval: 10 base_lr: 0.01 momentum: 0.9
        weight_decay: 0.0005 lr_policy: 'inv' gamma: 0.0001 power: 0.75 display: 10 max_iter: 20
        snapshot_after_train: false snapshot_prefix: 'model'""")
    return str(path)


@pytest.fixture
def solver(solver_file, rng):
    solver = caffe.SGDSolver(solver_file)
    for net in (solver.net, solver.test_nets[0]):
        net.blobs["label"].data[...] = rng.integers(6, size=net.blobs["label"].data.shape)
    return solver


def test_solve_runs_to_max_iter_and_logs_caffes_lines(solver, capsys):
    assert solver.iter == 0 and isinstance(solver.net, caffe.Net)
    solver.solve()
    assert solver.iter == 20
    text = capsys.readouterr().err
    for words in ("] Solving simple", "] Iteration 10 (", ", loss = ", "Train net output #0: loss = ", "lr = 0.01",
                  "] Iteration 10, Testing net (#0)", "Test net output #0: loss = ", "Optimization Done."):
        assert words in text, words


def test_steps_and_callbacks(solver):
    calls = []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("gradients"))
    solver.step(2)
    solver.step(1)
    assert solver.iter == 3 and calls == ["start", "gradients"] * 3


def test_apply_update_uses_the_first_rate(solver):
    blob = solver.net.layers[1].blobs[0]
    blob.data[...] = 0
    blob.diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(blob.data, -0.01, rtol=1e-6)


def test_nets_outlive_the_solver(solver):
    nets = [solver.net, *solver.test_nets]
    assert len(nets) == 2 and nets[1].params["conv"][0].data is not None
    solver.step(1)
    del solver
    gc.collect()
    for net in nets:
        assert all(np.isfinite(blob.data).all() and np.isfinite(blob.diff).all() for blobs in net.params.values()
                   for blob in blobs)
        assert set(net.forward()) == {"loss"}


def test_snapshot_and_restore(solver, solver_file, tmp_path):
    solver.step(2)
    solver.snapshot()
    assert (tmp_path / "model_iter_2.caffemodel").is_file() and (tmp_path / "model_iter_2.solverstate").is_file()
    other = caffe.SGDSolver(solver_file)
    other.restore("model_iter_2.solverstate")
    assert other.iter == 2
    np.testing.assert_array_equal(other.net.params["conv"][0].data, solver.net.params["conv"][0].data)
    with pytest.raises(RuntimeError, match="no such file"):
        other.restore("nothing.solverstate")


def test_param_says_what_scripts_ask(solver):
    assert solver.param.max_iter == 20 and solver.param.display == 10 and solver.param.layer_wise_reduce is True


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_every_solver_learns_under_its_name_and_by_get_solver(tmp_path, name):
    (tmp_path / "net.prototxt").write_text(simple())
    path = tmp_path / "solver.prototxt"
    path.write_text(f"net: '{tmp_path}/net.prototxt' base_lr: 0.001 lr_policy: 'fixed' type: '{name}' max_iter: 2")
    found = caffe.get_solver(str(path))
    cls = getattr(caffe, f"{name}Solver")
    assert type(found) is cls and isinstance(found, caffe.Solver)
    solver = cls(str(path))
    before = solver.net.params["ip"][0].data.copy()
    solver.step(2)
    assert (solver.net.params["ip"][0].data != before).any()


def test_a_missing_solver_is_a_runtime_error(tmp_path):
    for make in (caffe.SGDSolver, caffe.get_solver):
        with pytest.raises(RuntimeError, match="no such file"):
            make(str(tmp_path / "nothing.prototxt"))
    with pytest.raises(RuntimeError):
        caffe.NCCL(None, b"")
