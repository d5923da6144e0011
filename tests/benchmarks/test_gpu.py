"""The GPU's benchmark: it refuses without one, and measures everything on the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from atrouscaffe.runtime.cuda import probe
from benchmarks import gpu
from tests.benchmarks.models import write_model
from tests.conftest import ROOT


def test_without_a_gpu_it_says_so_and_measures_nothing() -> None:
    if probe().state == "ready":
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "benchmarks/gpu.py"], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("benchmarks/gpu.py: device 'cuda'") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_every_part_is_measured_and_compared(device, tmp_path, monkeypatch, capsys) -> None:
    from atrouscaffe.pipeline import yardstick

    monkeypatch.setitem(yardstick.SIDES, "cuda", 64)
    monkeypatch.setitem(yardstick.COPIED, "cuda", 1 << 16)
    monkeypatch.setattr(gpu, "find_torch", lambda: None)
    path = tmp_path / "found.json"
    assert gpu.main(["--model", str(write_model(tmp_path)), "--size", "33", "--batches", "2", "--precisions",
                     "fp32,fp16", "--train-batch", "2", "--train-size", "33", "--crf-sizes", "33", "--rounds", "2",
                     "--seconds", "0.01", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    rows = {(row["what"], row["engine"], row.get("batch"), row.get("precision")): row for row in found["rows"]}
    assert len(rows) == 3 * 2 + 1 + 2
    for row in rows.values():
        assert row["images_per_second"] > 0 and row["fastest_ms"] <= row["median_ms"] <= row["slowest_ms"]
    assert rows["forward", "ours, implicit", 2, "fp32"]["difference"] < 1e-5
    assert rows["forward", "ours, implicit", 2, "fp16"]["difference"] < 1e-2
    assert rows["CRF", "ours", None, None]["equal_labels"] > 0.995
    assert set(found["peak_flops_per_second"]) == {"fp32", "fp16"} and found["host"]["device"]["name"]
    text = capsys.readouterr().out
    assert "labels equal" in text and str(path) in text and text.count("training") == 1


def test_engines_take_turns_and_their_passes_are_counted() -> None:
    calls: list[tuple[str, int]] = []
    times = gpu.in_turns({"a": lambda n: calls.append(("a", n)), "b": lambda n: calls.append(("b", n))}, 3, 1e-5)
    assert [name for name, _ in calls[-6:]] == ["a", "b"] * 3
    assert len(times["a"]) == len(times["b"]) == 3 and calls[-1][1] >= 1


def test_rows_are_of_the_median() -> None:
    assert gpu.row([0.2, 0.1, 0.4], 4) == {"images_per_second": 20.0, "median_ms": 200.0, "fastest_ms": 100.0,
                                           "slowest_ms": 400.0}


def test_convolution_is_chosen_for_a_while(monkeypatch) -> None:
    monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", "measured")
    with gpu.convolution("explicit"):
        assert os.environ["ATROUSCAFFE_CONVOLUTION"] == "explicit"
    assert os.environ["ATROUSCAFFE_CONVOLUTION"] == "measured"
    monkeypatch.delenv("ATROUSCAFFE_CONVOLUTION")
    with gpu.convolution("implicit"):
        pass
    assert "ATROUSCAFFE_CONVOLUTION" not in os.environ


def test_table_sets_rows_beside_their_peer() -> None:
    rows = [{"what": "forward", "engine": name, "batch": 1, "precision": "fp32", **gpu.row([seconds], 1),
             "difference": 1e-6} for name, seconds in (("ours", 0.01), ("PyTorch", 0.005))]
    ours, theirs = gpu.table({"rows": rows}).splitlines()[1:]
    assert ours.split()[-2:] == ["0.50", "1.0e-06"] and theirs.split()[-2] == "1.00"


def test_clocks_are_read_where_nvidia_smi_is_there(tmp_path, monkeypatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\necho '{', '.join(gpu.SMI)}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpu.nvidia_smi() == {name: name for name in gpu.SMI}
    script.write_text("#!/bin/sh\nexit 9\n")
    assert gpu.nvidia_smi() == {}
