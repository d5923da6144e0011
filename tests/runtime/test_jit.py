"""The cache of compiled functions: it helps, and it never breaks anything."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

SCRIPT = """
import warnings, sys
warnings.simplefilter("always")
sys.path.insert(0, sys.argv[1])
from module import triple
print("result", triple(14.0), "hits", sum(triple.stats.cache_hits.values()))
"""

MODULE = """
from atrouscaffe.runtime.jit import jit
@jit
def triple(x):
    return 3 * x
"""


@pytest.fixture
def run(tmp_path):
    """Run the script in a fresh process with a cache folder of the test's own."""
    (tmp_path / "module.py").write_text(MODULE)

    def run(folder, **env):
        result = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], text=True,
                                capture_output=True, env={**os.environ, "ATROUSCAFFE_CACHE_DIR": str(folder), **env})
        assert result.returncode == 0, result.stderr
        assert "result 42.0" in result.stdout
        return int(result.stdout.split()[-1]), result.stderr

    return run


def test_second_process_finds_the_compiled_function(run, tmp_path):
    assert run(tmp_path / "cache")[0] == 0
    assert run(tmp_path / "cache")[0] == 1


@pytest.mark.parametrize("damage", ["truncate", "garbage", "directory"])
def test_damaged_cache_costs_a_compilation_only(run, tmp_path, damage):
    run(tmp_path / "cache")
    files = [path for path in (tmp_path / "cache").rglob("*.nb*") if path.is_file()]
    assert files
    for path in files:
        if damage == "truncate":
            path.write_bytes(path.read_bytes()[:20])
        elif damage == "garbage":
            path.write_bytes(os.urandom(200))
        else:
            path.unlink()
            path.mkdir()
    assert run(tmp_path / "cache")[0] == 0


def test_folder_that_cannot_be_written_warns_and_works(run, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    blocked.chmod(stat.S_IRUSR)
    hits, errors = run(blocked)
    assert hits == 0
    assert "ATROUSCAFFE_CACHE_DIR" in errors


def test_functions_of_one_factory_have_names_of_their_own():
    """By equal names Numba took one for the other where different processes had cached them."""
    from atrouscaffe.crf.filter_cpu import make_blur

    assert make_blur(8).py_func.__qualname__ != make_blur(16).py_func.__qualname__
