"""A training run from the outside: log, chart, signals, resuming, memory, full disks."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from atrouscaffe.cli.main import main
from atrouscaffe.errors import ArgumentError, BudgetError, FileAccessError
from atrouscaffe.pipeline.chart import Panel, Series, draw
from atrouscaffe.pipeline.train import images_per_iteration, memory_need, train
from atrouscaffe.pipeline.trainlog import TrainLog, read_log, write_chart
from tests.conftest import ROOT
from tests.solver import small

TESTED = "test_iter: 2 test_interval: 3 snapshot: 3"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_run_leaves_log_chart_and_snapshots(folder):
    lines = []
    solver, stopped = train(small.write(folder, TESTED + " display: 4"), say=lines.append)
    assert solver.iter == 8 and not stopped
    records = read_log(folder / "snap.log.jsonl")
    steps = [record for record in records if record["kind"] == "iteration"]
    assert [record["iteration"] for record in steps] == list(range(8))
    assert all(record["lr"] == pytest.approx(0.01) and record["gradient_norm"] > 0 and record["loss"] > 0
               and record["images_per_second"] > 0 for record in steps)
    assert [r["iteration"] for r in records if r["kind"] == "test"] == [0, 3, 6]
    assert [r["iteration"] for r in records if r["kind"] == "snapshot"] == [3, 6, 8]
    tree = ElementTree.fromstring((folder / "snap.svg").read_text())
    text = " ".join(element.text or "" for element in tree.iter())
    assert "loss" in text and "accuracy" in text and "learning rate" in text and "small" in text
    assert lines[0].startswith("memory planned: ") and any("from fillers: conv, ip" in line for line in lines)
    assert any("5 of 8 iterations, loss" in line and "images/s" in line and line.endswith("left") for line in lines)


def test_auto_goes_on_where_a_run_ended_and_the_log_tells_each_iteration_once(folder):
    whole = small.weights(train(small.write(folder, TESTED), say=str)[0])
    (folder / "b").mkdir()
    os.chdir(folder / "b")
    path = small.write(folder / "b", TESTED, base=small.SOLVER.replace("max_iter: 8", "max_iter: 5"))
    train(path, snapshot="auto", say=str)
    for left in (folder / "b").glob("snap_iter_5*"):
        left.unlink()  # as if the run had been killed before its last snapshot
    with open("snap.log.jsonl", "a") as file:
        file.write('{"kind": "iterat')
    left = folder / "b/.snap.svg.0123.tmp"
    left.write_text("half a chart")
    lines = []
    solver, _ = train(small.write(folder / "b", TESTED), snapshot="auto", say=lines.append)
    assert any("resumed at iteration 3" in line for line in lines) and not left.exists()
    assert small.same(whole, small.weights(solver))
    steps = [record["iteration"] for record in read_log("snap.log.jsonl") if record["kind"] == "iteration"]
    assert steps == list(range(8))
    assert all(json.loads(line) for line in (folder / "b/snap.log.jsonl").read_text().splitlines())


@pytest.mark.parametrize(("number", "iteration"), [(signal.SIGINT, 3), (signal.SIGTERM, 3), (signal.SIGHUP, 8)])
def test_signals_snapshot_and_stop_or_go_on(folder, number, iteration, monkeypatch):
    from atrouscaffe.solver.solver import Solver

    run = Solver._run_iteration

    def run_then_signal(self):
        run(self)
        if self.iter == 2:
            signal.raise_signal(number)

    monkeypatch.setattr(Solver, "_run_iteration", run_then_signal)
    before = signal.getsignal(number)
    status = main(["train", "--solver", str(small.write(folder))])
    assert signal.getsignal(number) == before
    if number == signal.SIGHUP:
        assert status == 0 and (folder / "snap_iter_3.solverstate").exists()
        assert (folder / "snap_iter_8.solverstate").exists()
    else:
        assert status == 130 and (folder / "snap_iter_2.solverstate").exists()
        assert not (folder / "snap_iter_8.solverstate").exists()


def test_weights_come_with_a_word_on_what_starts_from_fillers(folder):
    solver, _ = train(small.write(folder), say=str)
    solver.net.save("first.caffemodel")
    other = small.NET.replace('name: "ip"', 'name: "fc8_new"')
    path = small.write(folder, net=other, base=small.SOLVER.replace("max_iter: 8", "max_iter: 0"))
    assert main(["train", "--solver", str(path), "--weights", "first.caffemodel"]) == 2
    lines = []
    fresh, _ = train(path, weights=["first.caffemodel"], allow_missing=True, say=lines.append)
    assert "from fillers: fc8_new" in lines
    assert np.array_equal(fresh.net.params["conv"][0].data, solver.net.params["conv"][0].data)
    with pytest.raises(ArgumentError, match="got both"):
        train(path, weights=["first.caffemodel"], snapshot="snap_iter_8.solverstate", say=str)


def test_rows_of_zero_weights_are_warned_of(folder):
    lines = []
    bare = small.NET.replace('weight_filler { type: "msra" }', "").replace('weight_filler { type: "xavier" }', "")
    train(small.write(folder, net=bare, base=small.SOLVER.replace("max_iter: 8", "max_iter: 0")), say=lines.append)
    assert any(line.startswith("warning: all weights are 0 in conv, ip") for line in lines)


def test_memory_need_is_what_gets_allocated(folder):
    solver = small.make(folder, "test_iter: 1 test_interval: 1")
    need = memory_need(solver)
    solver.step(1)
    blobs = {id(blob): blob for blob in solver.net.blobs.values()}.values()
    assert need.blobs == sum(blob.count for blob in blobs) * 4
    assert need.gradients == sum(blob.count for name, blob in solver.net.blobs.items() if name in ("conv", "ip")) * 4
    count = sum(array.size for array in small.weights(solver))
    assert need.parameters == need.parameter_gradients == need.histories == count * 4
    assert need.tests == sum(blob.count for blob in solver.test_nets[0].blobs.values()) * 4
    assert images_per_iteration(solver) == 3


def test_more_memory_than_the_budget_is_refused(folder, monkeypatch):
    path = small.write(folder)
    need = memory_need(small.make(folder)).total
    monkeypatch.setenv("ATROUSCAFFE_MEMORY_BUDGET", str(need - 1))
    with pytest.raises(BudgetError, match="training needs"):
        train(path, say=str)
    assert not (folder / "snap.log.jsonl").exists()


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_file_size_limit_at_a_snapshot_leaves_nothing_unreadable(folder, form):
    solver = f"snapshot: 2 snapshot_format: {form}"
    (folder / "whole").mkdir()
    os.chdir(folder / "whole")
    wide = small.NET.replace("num_output: 5", "num_output: 300")
    whole = small.weights(train(small.write(folder / "whole", solver, net=wide), say=str)[0])
    (folder / "full").mkdir()
    os.chdir(folder / "full")
    path = small.write(folder / "full", solver, net=wide)
    short = small.SOLVER.replace("max_iter: 8", "max_iter: 2")
    train(small.write(folder / "full", solver, net=wide, base=short), say=str)
    names = {entry.name for entry in os.scandir(folder / "full") if entry.name.startswith(("snap_", "."))}
    small.write(folder / "full", solver, net=wide)
    limit = 100_000  # below the caffemodel's size, above all else that the run writes
    command = [sys.executable, "-m", "atrouscaffe", "train", "--solver", str(path), "--snapshot", "auto"]
    result = subprocess.run(command, cwd=folder / "full", capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)},
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert result.returncode == 2, result.stderr
    assert "cannot write" in result.stderr and "Traceback" not in result.stderr
    assert {entry.name for entry in os.scandir(folder / "full") if entry.name.startswith(("snap_", "."))} == names
    resumed, _ = train(path, snapshot="auto", say=str)
    assert small.same(whole, small.weights(resumed))


def test_command_resumes_and_reports_bad_arguments(folder, capsys):
    path = small.write(folder, "snapshot: 4")
    assert main(["train", "--solver", str(path)]) == 0
    assert main(["train", "--solver", str(path), "--snapshot", "snap_iter_4.solverstate"]) == 0
    assert "resumed at iteration 4" in capsys.readouterr().err
    assert main(["train", "--solver", str(path), "--set", "EXP"]) == 2
    assert main(["train", "--solver", "nowhere.prototxt"]) == 2
    assert main(["train", "--solver", str(path), "--device", "cuda"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_torn_last_line_of_a_log_is_cut(folder):
    path = folder / "log.jsonl"
    path.write_bytes(b'{"kind": "start", "iteration": 0}\n{"kind": "iter')
    log = TrainLog(path)
    log.write({"kind": "iteration", "iteration": 0})
    log.close()
    assert [record["kind"] for record in read_log(path)] == ["start", "iteration"]
    path.write_bytes(b"x" * 10000)
    TrainLog(path).close()
    assert path.read_bytes() == b""
    with pytest.raises(FileAccessError):
        TrainLog(folder)


def test_chart_of_an_empty_log_says_so(folder):
    log = TrainLog(folder / "log.jsonl")
    log.close()
    write_chart(folder / "log.jsonl", folder / "chart.svg", "nothing <yet> & more")
    assert "nothing recorded yet" in (folder / "chart.svg").read_text()
    ElementTree.parse(folder / "chart.svg")


def test_chart_places_points_by_value():
    text = draw("t", [Panel("p", [Series("a", [0, 5, 10], [1.0, 3.0, 2.0])])])
    root = ElementTree.fromstring(text)
    line = next(element for element in root.iter() if element.tag.endswith("polyline"))
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert points[1][0] == pytest.approx((points[0][0] + points[2][0]) / 2, abs=0.1)
    assert points[1][1] < points[2][1] < points[0][1]  # SVG counts rows downward
    assert points[2][1] == pytest.approx((points[0][1] + points[1][1]) / 2, abs=0.1)


def test_chart_uses_a_logarithmic_axis_for_wide_ranges_and_thins_long_series():
    x = list(range(10000))
    text = draw("t", [Panel("p", [Series("a", x, [10.0 ** (-4 * i / 9999) for i in x])], logarithmic=True)])
    root = ElementTree.fromstring(text)
    line = next(element for element in root.iter() if element.tag.endswith("polyline"))
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert 500 < len(points) <= 1500
    middle = points[len(points) // 2]
    assert middle[1] == pytest.approx((points[0][1] + points[-1][1]) / 2, abs=1)
