"""`benchmarks/crf_device.py` where there is nothing to measure."""

import subprocess
import sys

import pytest

from atrouscaffe.runtime.cuda import probe
from tests.conftest import ROOT


def test_without_a_gpu_nothing_is_measured(tmp_path):
    if probe().state == "ready":
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "benchmarks/crf_device.py", "--out", str(tmp_path / "found.json")], cwd=ROOT,
                          text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("benchmarks/crf_device.py: device 'cuda'") and done.stderr.count("\n") == 1
    assert not (tmp_path / "found.json").exists()
