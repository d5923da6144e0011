"""Solver: pycaffe's face, tests, lines, callbacks, requests, and where numbers stop being finite."""

from __future__ import annotations

import re

import numpy as np
import pytest

import atrouscaffe
from atrouscaffe import AdamSolver, NesterovSolver, SGDSolver, get_solver
from atrouscaffe.errors import ArgumentError, SolverError
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.solver.spec import read_spec
from tests.solver import small


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


TESTED = "test_iter: 3 test_interval: 2"


def test_face_is_pycaffes(folder):
    solver = small.make(folder, TESTED)
    assert isinstance(solver, SGDSolver) and solver.iter == 0 and solver.param.max_iter == 8
    assert solver.net.phase == atrouscaffe.TRAIN and [net.phase for net in solver.test_nets] == [atrouscaffe.TEST]
    solver.step(3)
    assert solver.iter == 3
    assert type(get_solver(small.write(folder, 'type: "Nesterov"'))) is NesterovSolver
    assert type(get_solver(small.write(folder, "solver_type: ADAM"))) is AdamSolver
    assert AdamSolver(small.write(folder)).param.type == "Adam"
    with pytest.raises(SolverError, match="momentum"):
        atrouscaffe.AdaGradSolver(small.write(folder))


def test_test_nets_use_the_train_nets_weights(folder, device):
    solver = small.make(folder, TESTED, device=device)
    solver.step(1)
    for layer, blobs in solver.net.params.items():
        for mine, theirs in zip(blobs, solver.test_nets[0].params[layer]):
            assert np.shares_memory(mine.data, theirs.data)


def test_tests_report_the_mean_over_their_batches(folder, device):
    lines, events = [], []
    solver = small.make(folder, TESTED + " test_compute_loss: true", lines=lines, device=device)
    solver.listeners.append(events.append)
    batches = []
    net = solver.test_nets[0]
    state = net.state()
    for _ in range(3):
        net.forward()
        batches.append((float(net.blobs["accuracy"].data), float(net.blobs["loss"].data)))
    net.set_state(state)
    solver.step(1)
    accuracy, loss = np.mean(batches, axis=0)
    test = next(event for event in events if event.kind == "test")
    assert (test.iteration, test.net) == (0, 0)
    assert test.outputs["accuracy"][0] == pytest.approx(accuracy, rel=1e-6)
    assert test.loss == pytest.approx(loss, rel=1e-6)
    assert lines[:2] == ["Iteration 0, Testing net (#0)", f"Test loss: {loss:g}"]
    assert lines[2] == f"    Test net output #0: accuracy = {accuracy:g}"
    assert lines[3] == f"    Test net output #1: loss = {loss:g} (* 1 = {loss:g} loss)"


@pytest.mark.parametrize(("text", "expected"), [
    (TESTED, [0, 2, 4]), (TESTED + " test_initialization: false", [2, 4])])
def test_tests_fall_due_every_interval(folder, text, expected):
    events = []
    solver = small.make(folder, text)
    solver.listeners.append(events.append)
    solver.step(5)
    assert [event.iteration for event in events if event.kind == "test"] == expected


def test_display_lines_are_caffes(folder):
    lines = []
    solver = small.make(folder, "display: 2 average_loss: 2", lines=lines)
    losses = []
    solver.listeners.append(lambda event: losses.append(event.loss))
    solver.step(3)
    assert re.fullmatch(r"Iteration 0 \(\S+ iter/s, \S+s/2 iters\), loss = \S+", lines[0])
    assert re.fullmatch(r"    Train net output #0: loss = (\S+) \(\* 1 = \1 loss\)", lines[1])
    assert lines[2] == "Iteration 0, lr = 0.01"
    smoothed = float(lines[3].rsplit(" ", 1)[1])
    assert smoothed == pytest.approx((losses[1] + losses[2]) / 2, rel=1e-5)
    assert len(lines) == 6


def test_debug_info_shows_every_layer(folder, device):
    lines = []
    solver = small.make(folder, "display: 2 debug_info: true", lines=lines, device=device)
    before = np.abs(solver.net.params["ip"][0].data).mean(dtype=np.float64)
    solver.step(2)
    text = "\n".join(lines)
    data = np.abs(solver.net.blobs["label"].data).mean()
    assert "    [Forward] Layer conv, top blob conv data: " in text and data > 0
    assert "    [Backward] Layer ip, bottom blob conv diff: " in text
    assert "    [Backward] Layer conv, bottom blob data" not in text
    norms = r"\(\S+, \S+\)"
    assert re.search(rf"\[Backward\] All net params \(data, diff\): L1 norm = {norms}; L2 norm = {norms}", text)
    assert f"    [Update] Layer ip, param 0 data: {before:g}; diff: " in text
    assert text.count("[Update] Layer ip, param 0") == 1  # iteration 1 is not displayed


def test_frozen_layers_cost_no_backward(folder, device):
    frozen = small.NET.replace("param { lr_mult: 1 } param { lr_mult: 2 }", "param { lr_mult: 0 } param { lr_mult: 0 }")
    solver = small.make(folder, net=frozen, device=device)
    run, before = [], small.weights(solver)
    solver.net.watch(backward=lambda node: run.append(node.spec.name))
    solver.step(2)
    after = small.weights(solver)
    assert run == ["loss", "ip"] * 2
    assert small.same(before[:2], after[:2]) and not np.array_equal(before[2], after[2])
    assert not any(blob.has_grad for blob in solver.net.params["conv"])
    assert not solver.net.blobs["conv"].has_grad and not solver.net.blobs["data"].has_grad


def test_callbacks_see_and_change_gradients(folder, device):
    solver = small.make(folder, base=small.SOLVER.replace("weight_decay: 0.001", ""), device=device)
    seen, before = [], small.weights(solver)

    def clear():
        seen.append(float(np.abs(solver.net.params["ip"][0].diff).sum()))
        solver.net.clear_param_diffs()

    solver.add_callback(lambda: seen.append("start"), clear)
    solver.step(2)
    assert seen[0] == seen[2] == "start" and seen[1] > 0
    assert small.same(before, small.weights(solver))


def test_apply_update_is_one_plain_step(folder, device):
    solver = small.make(folder, base=small.SOLVER.replace("weight_decay: 0.001", "").replace("momentum: 0.9", ""),
                        device=device)
    before = solver.net.params["conv"][1].data.copy()
    solver.net.clear_param_diffs()
    solver.net.params["conv"][1].diff[...] = 3
    solver.apply_update()
    np.testing.assert_allclose(before - solver.net.params["conv"][1].data, 3 * 0.01 * 2, rtol=1e-5)


def test_stop_request_ends_solve_with_a_snapshot(folder):
    solver = small.make(folder, "snapshot_after_train: false")
    solver.listeners.append(lambda event: solver.request("stop") if event.iteration == 2 else None)
    solver.solve()
    assert solver.iter == 3 and (folder / "snap_iter_3.solverstate").exists()
    with pytest.raises(ArgumentError, match="request"):
        solver.request("pause")


def test_stop_during_a_test_leaves_the_test_for_the_resumed_run(folder):
    solver = small.make(folder, TESTED)
    test_net = solver.test_nets[0]
    calls = []

    def forward_then_stop():
        calls.append(1)
        if len(calls) == 5:
            solver.request("stop")
        return forward()

    forward, test_net.forward = test_net.forward, forward_then_stop
    solver.solve()
    assert solver.iter == 2 and len(calls) == 5
    assert test_net.state()["rows_test"]["state"]["position"] == 3 * 2  # three batches of the first test, none of this


def test_snapshots_fall_due_and_one_stands_at_the_end(folder):
    small.make(folder, "snapshot: 3").solve()
    found = sorted(path.name for path in folder.glob("*.solverstate"))
    assert found == [f"snap_iter_{i}.solverstate" for i in (3, 6, 8)]


NOT_FINITE = ('layer { name: "log" type: "Log" bottom: "conv" top: "conv" }\nlayer { name: "drop"',
              'layer { name: "root" type: "Power" bottom: "conv" top: "root" power_param { power: 0.5 } }\n'
              'layer { name: "drop"')


def test_a_loss_that_is_not_finite_names_the_layer_where_it_began(folder, device):
    net = small.NET.replace('layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }', "").replace(
        'layer { name: "drop"', NOT_FINITE[0])
    solver = small.make(folder, net=net, device=device)
    before = small.weights(solver)
    with pytest.raises(SolverError, match=r"iteration 0: the loss is nan.*began in top 'conv' of layer 'log' \(Log"), \
            np.errstate(invalid="ignore"):
        solver.step(1)
    assert solver.iter == 0 and small.same(before, small.weights(solver))


def test_a_parameter_that_is_not_finite_is_named(folder, device):
    solver = small.make(folder, device=device)
    solver.step(1)
    solver.net.params["ip"][1].data[2] = np.inf
    with pytest.raises(SolverError, match="parameter 1 of layer 'ip'"), np.errstate(invalid="ignore"):
        solver.step(1)


def test_a_gradient_that_is_not_finite_names_the_layer_and_changes_nothing(folder, device):
    net = small.NET.replace('layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }', NOT_FINITE[1].replace(
        'layer { name: "drop"', "")).replace('bottom: "conv" top: "ip"', 'bottom: "root" top: "ip"')
    solver = small.make(folder, net=net, device=device)  # the root of 0 has an infinite slope
    before = small.weights(solver)
    with pytest.raises(SolverError, match=r"a gradient is not finite.*bottom 'conv' of layer 'root' \(Power"), \
            np.errstate(divide="ignore", invalid="ignore"):
        solver.step(1)
    assert small.same(before, small.weights(solver))


def test_large_finite_gradients_are_no_error(folder, device):
    solver = small.make(folder, 'clip_gradients: 1', device=device)
    solver.add_callback(None, lambda: solver.net.params["ip"][0].diff.fill(1e25))
    solver.step(1)
    assert all(np.isfinite(array).all() for array in small.weights(solver))


@pytest.mark.parametrize(("text", "match"), [
    ('base_lr: 1 lr_policy: "fixed"', "exactly one of net"),
    ('net: "a" train_net: "b" base_lr: 1 lr_policy: "fixed"', "net and net|train_net and net"),
    ('net: "a" base_lr: 1', "lr_policy"),
    ('net: "a" base_lr: 1 lr_policy: "stepp"', "nearest name is 'step'"),
    ('net: "a" lr_policy: "fixed"', "base_lr"),
    ('net: "a" base_lr: 1 lr_policy: "step" gamma: 0.1', "stepsize"),
    ('net: "a" base_lr: 1 lr_policy: "step" gamma: 0.1 stepsize: 0', "stepsize"),
    ('net: "a" base_lr: 1 lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 2', "ascending"),
    ('net: "a" base_lr: 1 lr_policy: "poly" power: -1 max_iter: 3', "power"),
    ('net: "a" base_lr: 1 lr_policy: "fixed" type: "Adagrad"', "nearest name is 'AdaGrad'"),
    ('net: "a" base_lr: 1 lr_policy: "fixed" regularization_type: "L3"', "L1 or L2"),
    ('net: "a" base_lr: 1 lr_policy: "fixed" iter_size: 0', "iter_size"),
    ('net: "a" base_lr: 1 lr_policy: "fixed" test_iter: 2', "test_interval"),
    ('train_net: "a" base_lr: 1 lr_policy: "fixed" test_iter: 2 test_interval: 1', "test_iter"),
    ('net: "a" base_lr: 1 lr_policy: "fixed" test_iter: 0 test_interval: 1', "test_iter"),
    ('net: "a" base_lr: 1 lr_policy: "fixed" test_iter: 2 test_interval: 1 test_state {} test_state {}', "test_state"),
    ('net: "a" base_lr: 1 lr_policy: "fixed" type: "RMSProp" rms_decay: 1', "rms_decay"),
    ('net: "a" base_lr: inf lr_policy: "fixed"', "finite"),
])
def test_contradictions_are_refused(text, match):
    with pytest.raises(SolverError, match=match):
        read_spec(text + "\n")


def test_nets_come_from_every_field_and_state(folder):
    small.write(folder)
    head = 'base_lr: 0.01 lr_policy: "fixed" random_seed: 1 '
    (folder / "level.prototxt").write_text(small.NET.replace(
        'include { phase: TEST } }\n', 'include { phase: TEST min_level: 2 stage: "deep" } }\n'))
    text = (f'{head} train_net: "net.prototxt" test_net: "net.prototxt" test_net: "level.prototxt" test_iter: 1 '
            'test_iter: 1 test_interval: 1 test_state {} test_state { level: 2 stage: "deep" stage: "other" }\n')
    solver = get_solver(text, log=lambda line: None)
    assert [net.phase.name for net in solver.test_nets] == ["TEST", "TEST"]
    assert "accuracy" in solver.test_nets[1].blobs and solver.test_nets[1].graph.level == 2
    inline = get_solver(f"{head} net_param {{ {small.NET} }} test_iter: 1 test_interval: 1\n", log=lambda line: None)
    inline.step(1)
    assert inline.net.name == "small" and len(inline.test_nets) == 1


def test_the_same_seed_gives_the_same_run_for_any_number_of_threads(folder):
    from atrouscaffe.runtime.threads import num_threads, set_num_threads

    results, before = [], num_threads()
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            solver = small.make(folder)
            solver.step(5)
            results.append(small.weights(solver))
    finally:
        set_num_threads(before)
    assert small.same(*results)
    other = small.make(folder, base=small.SOLVER.replace("random_seed: 7", "random_seed: 8"))
    other.step(5)
    assert not small.same(results[0], small.weights(other))


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_half_precision_is_refused_and_tf32_trains(folder, device):
    with pytest.raises(ArgumentError, match="expected 'fp32' or 'tf32' for training, got 'fp16'"):
        small.make(folder, device=device, precision="fp16")
    solver = small.make(folder, device=device, precision="tf32")
    before = small.weights(solver)
    solver.step(2)
    assert not small.same(before, small.weights(solver))
    assert on_device(solver.updater.histories[0][0]) and solver.updater.histories[0][0].any()


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_an_update_reaches_what_other_nets_derived_from_the_weights(folder, device):
    solver = small.make(folder, TESTED, device=device)
    epochs = [net.backend.epoch for net in (solver.net, *solver.test_nets)]
    solver.step(1)
    assert all(net.backend.epoch > epoch for net, epoch in zip((solver.net, *solver.test_nets), epochs))
