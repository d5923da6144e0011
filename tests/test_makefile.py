"""What `make gpu-check` and `make bench` would run is there."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from atrouscaffe.cli.main import COMMANDS
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def dry(target: str, *words: str) -> str:
    """Return the commands of a target, without running them."""
    done = subprocess.run(["make", "-n", target, *words], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("cuda", "other"), [("13", "12"), ("12", "13")])
def test_gpu_check_installs_one_cuda_and_runs_all_parts(cuda, other, tmp_path) -> None:
    text = dry("gpu-check", f"CUDA={cuda}", f"VENV={tmp_path}/venv")
    assert f"-e '.[cuda{cuda}]'" in text and f"-e '.[cuda{other}]'" not in text
    assert f"pip uninstall --quiet --yes cupy-cuda{other}x" in text
    for words in ("doctor --device cuda", "warmup --device cuda", "--require-gpu -k cuda", "tools/gpu_parity.py",
                  "memcheck racecheck", "--own-allocations", "benchmarks/gpu.py"):
        assert words in text
    for command in re.findall(r"-m atrouscaffe ([\w-]+)", text):
        assert command in COMMANDS


def test_scripts_that_are_run_are_there_and_bench_needs_no_gpu(tmp_path) -> None:
    scripts = {target: set(re.findall(r"(?:benchmarks|tools)/\w+\.py", dry(target, f"VENV={tmp_path}/venv")))
               for target in ("gpu-check", "bench")}
    for script in scripts["gpu-check"] | scripts["bench"]:
        assert (ROOT / script).is_file(), script
    assert not scripts["gpu-check"] & scripts["bench"]
    everything = {f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.py")}
    assert everything - scripts["gpu-check"] - scripts["bench"] == {"benchmarks/torch_net.py"}
