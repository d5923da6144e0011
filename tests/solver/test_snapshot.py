"""Snapshots: resumed runs, torn sets, refusals, full disks."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest

from atrouscaffe.errors import AtrousCaffeError, FileAccessError, SolverError
from atrouscaffe.formats.caffemodel import blob_record
from atrouscaffe.formats.schema import schema
from atrouscaffe.formats.weights import open_weights
from atrouscaffe.formats.wire import FileBytes, Reader
from atrouscaffe.solver import snapshot
from tests.solver import small

TESTED = "test_iter: 2 test_interval: 3 "
FORMS = ["snapshot_format: BINARYPROTO", "snapshot_format: HDF5"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def base(kind: str) -> str:
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    return small.SOLVER.replace("momentum: 0.9", momentum) + f'type: "{kind}"\n'


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["SGD", "AdaGrad", "Adam"])
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(folder, kind, form, device):
    whole = small.make(folder, TESTED + form, base=base(kind), device=device)
    scores = []
    whole.listeners.append(lambda event: scores.append((event.iteration, event.outputs)) if event.kind == "test" else 0)
    whole.step(4)
    state = whole.snapshot()
    whole.step(5)
    late = [score for score in scores if score[0] > 4]
    resumed = small.make(folder, TESTED + form, base=base(kind), device=device)
    resumed.listeners += whole.listeners
    scores.clear()
    resumed.restore(state)
    resumed.step(5)
    assert resumed.iter == whole.iter == 9
    assert small.same(small.weights(whole), small.weights(resumed))
    assert scores == late and late


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["SGD", "AdaDelta", "Adam"])
def test_run_that_changes_its_device_goes_on_as_it_was(folder, kind, form, device):
    net = small.NET.replace('layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }', "")  # masks differ
    whole = small.make(folder, form, net, base=base(kind))
    whole.step(8)
    for first, second in ((device, "cpu"), ("cpu", device)):
        begun = small.make(folder, form, net, base=base(kind), device=first)
        begun.step(4)
        resumed = small.make(folder, form, net, base=base(kind), device=second)
        resumed.restore(begun.snapshot())
        resumed.step(4)
        for ours, theirs in zip(small.weights(resumed), small.weights(whole), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_without_our_file_the_data_starts_at_its_first_row(folder):
    solver = small.make(folder)
    solver.step(2)
    state = solver.snapshot()
    (folder / "snap_iter_2.solverstate.json").unlink()
    lines = []
    resumed = small.make(folder, lines=lines)
    resumed.restore(state)
    assert "the data starts at its first row" in lines[-1]
    resumed.step(1)
    assert resumed.net.state()["rows"]["state"]["position"] == 3


def test_learned_net_is_found_beside_the_state(folder):
    solver = small.make(folder)
    solver.step(1)
    solver.snapshot()
    (folder / "moved").mkdir()
    for path in folder.glob("snap_*"):
        shutil.move(path, folder / "moved" / path.name)
    resumed = small.make(folder)
    resumed.restore("moved/snap_iter_1.solverstate")
    assert small.same(small.weights(solver), small.weights(resumed))


def test_what_changed_in_the_solver_is_told(folder):
    solver = small.make(folder)
    state = solver.snapshot()
    lines = []
    small.make(folder, lines=lines, base=small.SOLVER.replace("base_lr: 0.01", "base_lr: 0.5")).restore(state)
    assert any("base_lr was 0.0099" in line and "is 0.5 now" in line for line in lines)


OTHER_WIDTH = {"net": small.NET.replace("num_output: 5", "num_output: 6")}
OTHER_NAME = {"net": small.NET.replace('name: "ip"', 'name: "ip2"')}


@pytest.mark.parametrize(("other", "side", "match"), [
    ({"base": base("Nesterov")}, True, "expected type Nesterov, got SGD"),
    (OTHER_WIDTH, True, r"another net.*\['conv', 0, \[6, 2, 3, 3\]\]"),
    (OTHER_WIDTH, False, r"another net: history blob 0, expected shape \(6, 2, 3, 3\), got \(5, 2, 3, 3\)"),
    (OTHER_NAME, True, "another net.*'ip2'.*'ip'"),
    (OTHER_NAME, False, "missing +ip2"),
])
def test_snapshot_of_another_net_or_solver_is_refused(folder, other, side, match):
    solver = small.make(folder)
    solver.step(1)
    state = solver.snapshot()
    if not side:
        (folder / "snap_iter_1.solverstate.json").unlink()
    target = small.make(folder, **other)
    before = small.weights(target)
    with pytest.raises(AtrousCaffeError, match=match):
        target.restore(state)
    assert target.iter == 0 and small.same(before, small.weights(target))
    assert not any(history.any() for kinds in target.updater.histories for history in kinds)


def test_states_with_another_number_of_histories_are_refused(folder):
    state = small.make(folder).snapshot()
    (folder / "snap_iter_0.solverstate.json").unlink()
    with pytest.raises(SolverError, match="expected 8 history blobs for Adam and 4 parameters, got 4"):
        small.make(folder, base=base("Adam")).restore(state)


def tear(folder, how):
    """Damage the newest of two snapshots."""
    weights, state = folder / "snap_iter_4.caffemodel", folder / "snap_iter_4.solverstate"
    if how == "no weights":
        weights.unlink()
    elif how == "short weights":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif how == "other weights":
        shutil.copy(folder / "snap_iter_2.caffemodel", weights)
    elif how == "flipped bit":
        data = bytearray(weights.read_bytes())
        data[-20] ^= 1
        weights.write_bytes(data)
    elif how == "short state":
        state.write_bytes(state.read_bytes()[:-9])
    elif how == "empty state":
        state.write_bytes(b"")
    elif how == "other state":
        shutil.copy(folder / "snap_iter_2.solverstate", state)
    elif how == "broken side":
        (folder / "snap_iter_4.solverstate.json").write_text('{"format": 1')
    else:
        (folder / "snap_iter_4.solverstate.json").write_text("[1, 2]")


@pytest.mark.parametrize("how", ["no weights", "short weights", "other weights", "flipped bit", "short state",
                                 "empty state", "other state", "broken side", "strange side"])
def test_newest_whole_snapshot_is_found(folder, how):
    solver = small.make(folder, "snapshot: 2")
    solver.step(4)
    stem, lines = snapshot.prefix(solver), []
    assert snapshot.newest(stem, lines.append).endswith("snap_iter_4.solverstate") and not lines
    tear(folder, how)
    assert snapshot.newest(stem, lines.append).endswith("snap_iter_2.solverstate")
    assert len(lines) == 1 and "not whole" in lines[0]
    with pytest.raises(AtrousCaffeError):
        small.make(folder).restore("snap_iter_4.solverstate")


def test_newest_of_nothing_is_none(folder):
    assert snapshot.newest(str(folder / "snap"), print) is None
    assert snapshot.newest(str(folder / "nowhere" / "snap"), print) is None
    (folder / "other_iter_3.solverstate").write_bytes(b"")
    (folder / "snap_iter_.solverstate").write_bytes(b"")
    assert snapshot.newest(str(folder / "snap"), print) is None


def diffs_of_binary(path):
    reader = Reader(FileBytes.open(path), schema("bvlc"))
    layers = reader.message("NetParameter").get("layer")
    return {layer.get("name"): [blob_record(blob, str(path), "diff", field="diff").load()
                                for blob in layer.get("blobs", [])] for layer in layers}


@pytest.mark.parametrize("form", FORMS)
def test_snapshot_diff_keeps_the_updates(folder, form):
    solver = small.make(folder, "snapshot_diff: true " + form)
    solver.step(1)
    solver.snapshot()
    if "HDF5" in form:
        with h5py.File(folder / "snap_iter_1.caffemodel.h5") as file:
            found = {name: [file["diff"][name][str(i)][()] for i in range(2)] for name in ("conv", "ip")}
    else:
        found = diffs_of_binary(folder / "snap_iter_1.caffemodel")
    for name in ("conv", "ip"):
        for blob, diff in zip(solver.net.params[name], found[name]):
            np.testing.assert_array_equal(blob.diff.ravel(), diff.ravel())
    weights = next(folder.glob("*.caffemodel*"))
    assert [len(layer.blobs) for layer in open_weights(weights).layers if layer.name == "ip"] == [2]


def test_prefix_that_cannot_be_written_is_found_before_the_first_iteration(folder):
    (folder / "file").write_text("")
    solver = small.make(folder, base=small.SOLVER.replace('"snap"', '"file/snap"'))
    with pytest.raises(FileAccessError, match="snapshot_prefix"):
        solver.solve()
    assert solver.iter == 0


def test_folder_of_the_prefix_is_made_and_old_temporary_files_go(folder):
    (folder / "deep").mkdir()
    left = folder / "deep" / ".snap_iter_3.caffemodel.0123.tmp"
    left.write_bytes(b"part")
    other = folder / "deep" / ".other_iter_3.caffemodel.0123.tmp"
    other.write_bytes(b"part")
    small.make(folder, base=small.SOLVER.replace('"snap"', '"deep/er/snap"')).solve()
    assert (folder / "deep/er/snap_iter_8.solverstate").exists()
    small.make(folder, base=small.SOLVER.replace('"snap"', '"deep/snap"')).solve()
    assert not left.exists() and other.exists()


def test_prefix_out_of_the_allowed_folders_is_refused(folder):
    solver = small.make(folder, base=small.SOLVER.replace('"snap"', '"/usr/snap"'))
    with pytest.raises(AtrousCaffeError, match="allow"):
        solver.snapshot()


def test_without_a_prefix_snapshots_bear_the_solvers_name(folder):
    solver = small.make(folder, base=small.SOLVER.replace('snapshot_prefix: "snap"', ""))
    assert solver.snapshot().endswith("solver_iter_0.solverstate")


@pytest.mark.parametrize("form", FORMS)
def test_disk_full_at_a_snapshot_leaves_the_earlier_one_whole(folder, form, monkeypatch):
    solver = small.make(folder, form)
    solver.step(1)
    first = solver.snapshot()
    solver.step(1)
    names = sorted(path.name for path in folder.iterdir())

    def full(path, state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "write_solverstate", full)
    with pytest.raises(OSError, match="No space left"):
        solver.snapshot()
    assert sorted(path.name for path in folder.iterdir()) == names
    assert snapshot.newest(snapshot.prefix(solver), print) == first


def test_side_file_is_json_with_what_a_resumed_run_needs(folder):
    solver = small.make(folder, TESTED)
    solver.step(3)
    solver.snapshot()
    side = json.loads((folder / "snap_iter_3.solverstate.json").read_text())
    assert side["iteration"] == 3 and side["train"]["rows"]["state"]["position"] == 9
    assert side["parameters"][0] == ["conv", 0, [5, 2, 3, 3]] and len(side["tests"]) == 1
