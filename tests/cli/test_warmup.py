"""The command `warmup`: a second run has nothing to do, and what nets use is covered."""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys

from tests.conftest import ROOT

ON_DEMAND = {"crf.filter_cpu.own_weights", "ops.im2col_cpu.direct_forward", "runtime.fingerprint_cpu.mixed",
             "ops.finish_cpu.finish_planes"}
"""What only rare uses need: exact inference, float64, diagnostics, weights that a user holds, odd activations."""


def warmup(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "atrouscaffe", "warmup", *words], cwd=ROOT, text=True,
                          capture_output=True, timeout=300, env={**os.environ, **environment})


def test_second_run_has_nothing_to_do() -> None:
    first = warmup("--device", "cpu", "--json")
    assert (first.returncode, first.stderr) == (0, "")
    steps = json.loads(first.stdout)["cpu"]
    assert len(steps) >= 10 and {step["name"] for step in steps} >= {"convolution", "pooling", "CRF of 21 labels"}
    second = warmup("--device", "cpu")
    assert (second.returncode, second.stderr) == (0, "")
    [line] = second.stdout.splitlines()
    assert line.startswith("cpu: nothing was to be compiled, ") and float(line.split()[-2]) < 20


def test_every_compiled_function_is_used() -> None:
    from atrouscaffe.pipeline.warmup import warm_cpu
    from atrouscaffe.runtime.jit import counts

    for _ in warm_cpu():
        pass
    unused = set()
    for name, (compiled, read) in counts().items():
        module, function = name.rsplit(".", 1)
        if module.endswith("_cpu") and not compiled + read:
            public = importlib.import_module(f"atrouscaffe.{module}").__all__
            unused |= {name} if function in public or f"make_{function}" in public else set()
    assert unused <= ON_DEMAND


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    done = warmup("--device", "cpu", ATROUSCAFFE_CACHE_DIR=str(tmp_path / "file"), PYTHONWARNINGS="ignore")
    assert done.returncode == 2
    assert done.stderr.startswith("atrouscaffe: warmup:") and "ATROUSCAFFE_CACHE_DIR" in done.stderr


def test_a_disk_without_room_is_an_error(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-m", "atrouscaffe", "warmup", "--device", "cpu"], cwd=ROOT, text=True,
                          capture_output=True, timeout=300, env={**os.environ, "ATROUSCAFFE_CACHE_DIR": str(tmp_path)},
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)))
    assert done.returncode == 2
    assert done.stderr.startswith("atrouscaffe: warmup:") and "disk is full" in done.stderr
    assert str(tmp_path) in done.stderr and done.stdout == ""


def test_a_device_that_is_not_there_is_an_error() -> None:
    from atrouscaffe.runtime.cuda import probe

    if probe().state == "ready":
        assert warmup("--device", "cuda:99").returncode == 2
        return
    done = warmup("--device", "cuda")
    assert done.returncode == 2 and done.stderr.startswith("atrouscaffe: device 'cuda'")


def test_a_device_that_was_not_asked_for_is_passed_over_with_the_reason(monkeypatch, capsys) -> None:
    from atrouscaffe.cli.main import main
    from atrouscaffe.pipeline import warmup as pipeline
    from atrouscaffe.runtime import cuda

    monkeypatch.setattr(pipeline, "warm_cpu", lambda: iter(()))
    monkeypatch.setattr(cuda, "probe", lambda: cuda.Probe("no device", "device 'cuda': none was found; buy one"))
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "cuda: nothing to do: none was found"
