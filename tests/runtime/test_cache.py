"""Where things are kept that can be made again."""

import os
import pwd
from pathlib import Path

from atrouscaffe.pipeline.doctor_gpu import kernel_cache_folder
from atrouscaffe.runtime.cache import cache_base, folder_size


def test_the_folder_is_the_one_that_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ATROUSCAFFE_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_base() == tmp_path / ".cache" / "atrouscaffe"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_base() == tmp_path / "x" / "atrouscaffe"
    monkeypatch.setenv("ATROUSCAFFE_CACHE_DIR", str(tmp_path / "y"))
    assert cache_base() == tmp_path / "y"


def test_a_user_without_a_home_has_the_root(monkeypatch):
    def nobody(number):
        raise KeyError(f"uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "ATROUSCAFFE_CACHE_DIR", "XDG_CACHE_HOME", "CUPY_CACHE_DIR", "CUPY_CACHE_IN_MEMORY"):
        monkeypatch.delenv(name, raising=False)
    assert cache_base() == Path("/.cache/atrouscaffe")
    assert kernel_cache_folder() == Path("/.cupy/kernel_cache")


def test_sizes_are_added_up(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(7))
    (tmp_path / "c").write_bytes(bytes(5))
    os.symlink(tmp_path / "gone", tmp_path / "d")
    assert folder_size(tmp_path) == (2, 12)
    assert folder_size(tmp_path / "nowhere") == (0, 0)
