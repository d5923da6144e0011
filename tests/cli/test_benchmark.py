"""The command `benchmark`, as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from atrouscaffe.cli.progress import NOTICE
from tests.conftest import ROOT
from tests.pipeline.test_benchmark import NET


@pytest.fixture
def run(tmp_path):
    (tmp_path / "small.prototxt").write_text(NET)
    (tmp_path / "other.prototxt").write_text(NET.replace("num_output: 5", "num_output: 4"))

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "atrouscaffe", "benchmark", *words], cwd=tmp_path, text=True,
                              capture_output=True, timeout=300,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})

    return run


def test_table_and_json(run, tmp_path) -> None:
    done = run("--model", "small.prototxt", "--model", "other.prototxt", "--size", "41", "--repeats", "2", "--json",
               "found.json")
    assert (done.returncode, done.stderr.removeprefix(f"{NOTICE}\n")) == (0, "")  # the first run here may compile
    found = json.loads((tmp_path / "found.json").read_text())
    assert [net["model"] for net in found["nets"]] == ["small.prototxt", "other.prototxt"]
    assert found["peak_flops_per_second"] > 1e9 and found["copy_bytes_per_second"] > 1e8
    assert found["host"]["processor"] and (found["device"], found["repeats"]) == ("cpu", 2)
    text = done.stdout
    for word in ("decode", "net", "upsample", "CRF", "write", "all", "paper: 0.5 s", "the same bits", "at most:"):
        assert word in text
    assert text.count("labels equal on 100.00%") == 2


def test_json_alone_without_crf_and_yardsticks(run) -> None:
    done = run("--model", "small.prototxt", "--size", "41", "--repeats", "1", "--no-crf", "--no-peak", "--json", "-")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert "peak_flops_per_second" not in found and list(found["nets"][0]["stages"]) == ["decode", "net", "upsample",
                                                                                         "write"]


def test_weights_of_a_file_are_run(run, tmp_path) -> None:
    from atrouscaffe.net import Net

    Net(NET, seed=3).save(tmp_path / "w.caffemodel")
    done = run("--model", "small.prototxt", "--weights", "w.caffemodel", "--size", "41", "--repeats", "1", "--no-peak",
               "--json", "-")
    assert done.returncode == 0, done.stderr
    [net] = json.loads(done.stdout)["nets"]
    assert net["weights"] == "w.caffemodel" and net["crf_scores"] == "the net's"


@pytest.mark.parametrize(("words", "error"), [
    (("--precision", "fp16"), "expected 'fp32' on device 'cpu'"), (("--repeats", "0"), "repeats: expected at least 1"),
    (("--weights", "deeplab-4x4=x"), "--weights: expected NET=FILE for one of deeplab, deeplab-largefov"),
    (("--model", "small.prototxt", "--images", "no.jpg"), "no.jpg"), (("--model", "no.prototxt"), "no.prototxt")])
def test_mistakes_are_one_paragraph(run, words, error) -> None:
    done = run("--no-peak", *words)
    assert done.returncode == 2 and error in done.stderr and "Traceback" not in done.stderr
