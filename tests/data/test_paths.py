"""Paths inside a prototxt stay inside its folder, the working folder and what is allowed."""

from __future__ import annotations

import pytest

from atrouscaffe.data.paths import PathGuard
from atrouscaffe.errors import AtrousCaffeError, DataError
from atrouscaffe.layers.softmax_with_loss import read_class_weights


@pytest.fixture
def guard(tmp_path, monkeypatch):
    (tmp_path / "net").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return PathGuard(tmp_path / "net" / "net.prototxt")


def test_the_working_folder_comes_first_then_the_nets(guard, tmp_path):
    (tmp_path / "net" / "a.txt").touch()
    assert guard.resolve("a.txt", "source") == str(tmp_path / "net" / "a.txt")
    (tmp_path / "work" / "a.txt").touch()
    assert guard.resolve("a.txt", "source") == str(tmp_path / "work" / "a.txt")
    assert guard.resolve("new.txt", "source") == str(tmp_path / "work" / "new.txt")


@pytest.mark.parametrize("path", ["../other/a.txt", "/etc/hostname", "link/hostname", "a\0b"])
def test_paths_that_lead_outside_are_refused(guard, tmp_path, path):
    (tmp_path / "work" / "link").symlink_to("/etc")
    with pytest.raises(DataError):
        guard.resolve(path, "source")
    assert PathGuard("", ["/etc"]).resolve("/etc/hostname", "source") == "/etc/hostname"


@pytest.mark.parametrize("path", ["x" * 300, "x" * 5000, "a/" * 3000, "loop", "loop/a"])
def test_impossible_paths_are_errors_of_the_reader(guard, tmp_path, path):
    (tmp_path / "work" / "loop").symlink_to("loop")
    with pytest.raises(AtrousCaffeError):
        read_class_weights(guard.resolve(path, "weight_source"))
