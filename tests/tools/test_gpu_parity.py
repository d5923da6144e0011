"""The comparison of a device with the CPU: its verdicts, and its ways out."""

from __future__ import annotations

import json

import pytest

from atrouscaffe.runtime.cuda import probe
from tests.benchmarks.models import write_model
from tools import gpu_parity


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_a_device_that_agrees_and_one_that_does_not(device, tmp_path, monkeypatch, capsys) -> None:
    words = ["--device", device, "--models", str(write_model(tmp_path)), "--size", "65", "--count", "1", "--precisions",
             "fp32,fp16", "--photographs", str(tmp_path / "a.jpg")]
    (tmp_path / "a.jpg").write_bytes(gpu_parity.synthetic_picture(80, 3).data)
    assert gpu_parity.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    full, half = json.loads((tmp_path / "found.json").read_text())
    assert full["largest_relative_difference"] < 1e-5 < half["largest_relative_difference"] < 1e-2
    assert full["equal_labels"] > 0.999 and (full["weights"], full["photographs"]) == ("random", True)
    assert "all 2 comparisons agree" in capsys.readouterr().out
    monkeypatch.setitem(gpu_parity.LARGEST, "fp16", 1e-7)
    assert gpu_parity.main(words) == 1
    assert "1 of 2 comparisons are too far apart" in capsys.readouterr().out


def test_labels_of_trained_nets_are_held_to_their_share(tmp_path, monkeypatch) -> None:
    from atrouscaffe.net import Net

    path = write_model(tmp_path)
    Net(path, seed=1).save(tmp_path / "w.caffemodel")
    monkeypatch.setattr(gpu_parity, "EQUAL_LABELS", 1.1)
    words = ["--device", "cpu", "--models", str(path), "--size", "65", "--count", "1", "--precisions", "fp32"]
    assert gpu_parity.main(words) == 0
    assert gpu_parity.main([*words, "--weights", f"{path}={tmp_path / 'w.caffemodel'}"]) == 1


def test_mistakes_and_missing_devices_end_with_2(tmp_path, capsys) -> None:
    assert gpu_parity.main(["--device", "cpu", "--models", str(tmp_path / "none.prototxt")]) == 2
    assert "none.prototxt" in capsys.readouterr().err
    if probe().state != "ready":
        assert gpu_parity.main([]) == 2
        assert capsys.readouterr().err.startswith("gpu_parity: device 'cuda'")


def test_photographs_are_spread_over_what_there_is(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "data" / "voc" / "JPEGImages"
    folder.mkdir(parents=True)
    for i in range(9):
        (folder / f"{i}.jpg").touch()
    monkeypatch.setenv("ATROUSCAFFE_SHARED", str(tmp_path))
    assert [path.stem for path in gpu_parity.photographs([], 3)] == ["0", "3", "6"]
    assert [str(path) for path in gpu_parity.photographs(["x.png"], 3)] == ["x.png"]
    monkeypatch.setenv("ATROUSCAFFE_SHARED", str(tmp_path / "empty"))
    assert gpu_parity.photographs([], 3) == []


def test_every_net_has_a_side_near_the_papers() -> None:
    sides = {model: gpu_parity.fit_side(306, gpu_parity.written_side(model)) for model in
             (*gpu_parity.METHODS, gpu_parity.EMBEDDED)}
    assert set(sides.values()) <= {305, 306} and len(sides) == 7
