"""Bounds and measurements of single convolutions: the figures fit the nets, and docs/gpu.md shows what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import pytest

from atrouscaffe.ops import conv_implicit_cuda as implicit
from atrouscaffe.runtime.cuda import probe
from benchmarks import gpu_bounds
from tests.conftest import ROOT


@pytest.fixture
def gpu_convolutions(monkeypatch) -> ModuleType:
    """The script, as it is found where it is run."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu_convolutions

    return gpu_convolutions


def test_bounds_of_largefov(capsys):
    """FLOPs as `inspect` counts them; every byte once, and nine columns a pixel besides."""
    gpu_bounds.main(["--json", "--batch", "2"])
    found = json.loads(capsys.readouterr().out)
    rows = {row["layer"]: row for row in found["batches"]["2"]}
    assert sum(row["gflop"] for row in rows.values()) == pytest.approx(2 * 95.707, abs=0.01)
    row = rows["conv5_3"]
    assert (row["pixels"], row["outputs"], row["depth"], row["hole"]) == (2 * 40 * 40, 512, 9 * 512, 2)
    once = 2 * (2 * 2 * 40 * 40 * 512 + 9 * 512 * 512)
    assert row["implicit"] == pytest.approx(once / 3.35e6)
    assert row["explicit"] == pytest.approx((once + 2 * 2 * 9 * 512 * 3200) / 3.35e6)
    assert row["arithmetic fp16"] == pytest.approx(2 * 9 * 512 * 512 * 3200 / 989.4e6)
    assert rows["fc7"]["explicit"] == rows["fc7"]["implicit"]  # a 1 x 1 window needs no columns


def test_documentation_shows_what_is_printed(capsys):
    gpu_bounds.main(["--batch", "1"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 14
    assert "\n".join(table) in (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")


def test_without_a_gpu_nothing_is_measured():
    if probe().state == "ready":
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "benchmarks/gpu_convolutions.py"], cwd=ROOT, text=True, capture_output=True,
                          timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("benchmarks/gpu_convolutions.py: device 'cuda'") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_every_way_is_measured(device, gpu_convolutions, monkeypatch, tmp_path, capsys):
    every = gpu_convolutions.convolutions
    monkeypatch.setattr(gpu_convolutions, "convolutions",
                        lambda *words: [layer for layer in every(*words) if layer["name"] in ("conv2_1", "fc8_voc12")])
    path = tmp_path / "found.json"
    assert gpu_convolutions.main(["--size", "33", "--plans", "2", "--repeats", "1", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["layers"]
    assert [(row["layer"], row["precision"]) for row in found] == [
        (layer, precision) for layer in ("conv2_1", "fc8_voc12") for precision in ("fp32", "tf32", "fp16")]
    for row in found:
        kinds = [name.startswith("packed") for name in row["times"]]
        assert next(iter(row["times"])) == "columns"
        assert kinds.count(False) == 3 and kinds.count(True) == 2 * (row["precision"] == "fp16")
        assert all(time > 0 for time in row["times"].values())
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2 + 6


@pytest.mark.parametrize("device", ["stand-in"], indirect=True)
def test_a_wrong_result_is_told(device, gpu_convolutions, monkeypatch):
    """Bias forgotten: the benchmark must not time it."""
    right = implicit.implicit_forward
    monkeypatch.setattr(implicit, "implicit_forward",
                        lambda x, weight, bias, y, *rest, **named: right(x, weight, None, y, *rest, **named))
    layer = gpu_convolutions.convolutions("deeplab-largefov", 33, 1)[-1]
    with pytest.raises(SystemExit, match="fc8_voc12, fp32.* off by"):
        gpu_convolutions.measure(layer, "fp32", 1, 1)
