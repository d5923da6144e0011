"""The command: results on disk and screen, exit statuses, and runs that are killed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from atrouscaffe.cli.main import main
from atrouscaffe.cli.progress import Progress
from atrouscaffe.data.palette import encode_labels

from ..pipeline import nets, voc

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, net and weights, and the options that name them."""
    path = tmp_path_factory.mktemp("place")
    voc.folder(path, count=14, size=(90, 110))
    (path / "net.prototxt").write_text(nets.finite(size=(93, 113)))
    weights = nets.weights(nets.finite(size=(93, 113)), path / "w.caffemodel")
    return path, ["--model", str(path / "net.prototxt"), "--weights", str(weights), "--mean", "100", "--scale", "0.02",
                  "--voc", str(path)]


def figures(path):
    found = json.loads(path.read_text())
    return {key: value for key, value in found.items() if key not in ("seconds", "resumed")}, found


def test_results_on_disk_and_screen_agree(place, tmp_path, capsys):
    _, words = place
    assert main(["evaluate", *words, "--crf", "--limit", "3", "--out", str(tmp_path / "out"), "--trimap", "void"]) == 0
    text = capsys.readouterr().out
    found = figures(tmp_path / "out" / "evaluation.json")[1]
    assert found["images"] == 3 and len(list((tmp_path / "out" / "crf").glob("*.png"))) == 3
    row = next(line for line in text.splitlines() if line.startswith("mean IoU  "))
    assert row.split()[2:] == [f"{found[kind]['mean_iou']:.2f}" for kind in ("plain", "crf")]
    assert "border band by void" in text
    with open(tmp_path / "out" / "evaluation.csv", newline="") as file:
        rows = {(row["kind"], row["figure"], row["of"]): row["value"] for row in csv.DictReader(file)}
    assert float(rows["crf", "iou", "class 1"]) == pytest.approx(found["crf"]["iou"]["class 1"], abs=1e-3)
    assert float(rows["plain", "trimap_void_mean_iou", "7"]) == pytest.approx(
        found["plain"]["curves"]["void"]["mean_iou"][6], abs=1e-3)
    assert "<h2>Along object borders</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_absent_classes_and_both_means_are_told(place, capsys):
    _, words = place
    assert main(["evaluate", *words, "--limit", "1", "--trimap", "none"]) == 0
    text = capsys.readouterr().out
    assert "mean IoU, devkit's convention" in text and "not in the ground truth: class 2" in text
    assert "border band" not in text


def test_bad_image_is_told_before_and_behind_the_run(tmp_path, place, capsys):
    root = voc.folder(tmp_path, count=3)
    path = root / "VOCdevkit/VOC2012/JPEGImages/2007_000001.jpg"
    path.write_bytes(b"nothing")
    words = [*place[1][:-1], str(root)]
    assert main(["evaluate", *words]) == 1
    told = capsys.readouterr()
    assert "2007_000001 will be left out" in told.err and "not a picture" in told.err
    assert "1 images were left out" in told.out and "2 images" in told.out
    for broken in (root / "VOCdevkit/VOC2012/JPEGImages").glob("*.jpg"):
        broken.write_bytes(b"nothing")
    assert main(["evaluate", *words]) == 2
    assert "none of the list's 3 images can be used" in capsys.readouterr().err


def test_several_models_and_predictions_stand_side_by_side(place, tmp_path, capsys):
    path, words = place
    other = nets.weights(nets.finite(size=(93, 113)), tmp_path / "w2.caffemodel", seed=1)
    (tmp_path / "second.prototxt").write_text((path / "net.prototxt").read_text())
    out = tmp_path / "out"
    assert main(["evaluate", *words, "--also", f"{tmp_path / 'second.prototxt'}={other}", "--also",
                 f"{path / 'net.prototxt'}={other}", "--limit", "2", "--out", str(out)]) == 0
    models = json.loads((out / "evaluation.json").read_text())["models"]
    assert models[0]["plain"]["confusion"] != models[1]["plain"]["confusion"] == models[2]["plain"]["confusion"]
    assert len({model["title"] for model in models}) == 3
    assert {folder.name for folder in out.iterdir() if folder.is_dir()} == {"1-net", "2-second", "3-net"}
    capsys.readouterr()
    assert main(["evaluate", "--voc", str(path), "--limit", "2", "--predictions", f"theirs={out / '1-net' / 'plain'}",
                 "--json", "-"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert theirs["model"] == "theirs"
    assert theirs["plain"]["pixel_accuracy"] == models[0]["plain"]["pixel_accuracy"]
    (out / "1-net" / "plain" / "2007_000000.png").write_bytes(encode_labels(np.full((90, 110), 255)))
    assert main(["evaluate", "--voc", str(path), "--limit", "2", "--predictions", str(out / "1-net" / "plain")]) == 1
    assert "2007_000000.png: predicted label 255" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "told"), [
    (["--fresh"], "--out"), (["--save-scores", "npz"], "--out"), (["--scales", "1,x"], "--scales"),
    (["--limit", "0"], "--limit"), (["--predictions", "."], "takes the place"), (["--also", "net"], "NAME=VALUE"),
    (["--scores", ".", "--ledger"], "--ledger")])
def test_options_that_do_not_fit_are_refused(place, capsys, words, told):
    assert main(["evaluate", *place[1], *words]) == 2
    assert told in capsys.readouterr().err


def test_weights_trained_on_trainval_are_warned_about(place, tmp_path, capsys):
    path, words = place
    weights = tmp_path / "train2_iter_8000.caffemodel"
    weights.write_bytes((path / "w.caffemodel").read_bytes())
    words = [*words[:3], str(weights), *words[4:]]
    assert main(["evaluate", *words, "--limit", "1", "--out", str(tmp_path / "out")]) == 0
    assert "was trained on trainval_aug" in capsys.readouterr().err
    assert "was trained on trainval_aug" in (tmp_path / "out" / "report.html").read_text()


def test_progress_shows_time_left_and_running_figures(monkeypatch, capsys):
    times = iter([0.0, 10.0, 12.0])
    monkeypatch.setattr("atrouscaffe.cli.progress.time.monotonic", lambda: next(times))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = Progress(40)
    progress.update(10, "mean IoU 61.20 plain")
    assert "10/40 images, 0:30 left, mean IoU 61.20 plain" in capsys.readouterr().err


def test_killed_runs_end_with_the_same_figures_and_repeat_nothing(place, tmp_path):
    """Killed twice at random moments; what was finished stays untouched."""
    _, words = place
    command = [sys.executable, "-m", "atrouscaffe", "evaluate", *words, "--crf", "--crf-set", "iterations=30"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run, whole = tmp_path / "run", tmp_path / "whole"
    subprocess.run([*command, "--out", whole], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    moments, kept = random.Random(os.getpid()), {}
    for _ in range(2):
        goal = len(kept) + moments.randint(1, 4)
        process = subprocess.Popen([*command, "--out", run], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 200
        while len(list((run / "crf").glob("2*.png"))) < goal and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for path in run.glob("*/2*.png"):
            if (run / "plain" / path.name).is_file() and (run / "crf" / path.name).is_file():
                time_then = path.stat().st_mtime_ns
                assert kept.setdefault(path, time_then) == time_then
    finished = len(kept) // 2
    assert 2 <= finished < 14, finished
    (run / "crf" / ".2007_000013.png.0123456789ab.tmp").write_bytes(b"half")  # as a kill leaves
    subprocess.run([*command, "--out", run], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    same, told = figures(run / "evaluation.json")
    assert same == figures(whole / "evaluation.json")[0] and told["resumed"] == finished
    assert not list(run.glob("*/.*.tmp"))
