"""The files of prototxt/ are those that tools/make_prototxt.py and tools/make_embedded.py write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import make_embedded, make_prototxt


def test_check_on_the_checkout_finds_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_prototxt.main(["--check"]) == 0, capsys.readouterr().out
    assert make_embedded.main(["--check"]) == 0, capsys.readouterr().out


def test_check_when_a_file_differs_fails_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_prototxt.main(["--root", str(tmp_path)]) == 0
    assert make_prototxt.main(["--root", str(tmp_path), "--check"]) == 0
    capsys.readouterr()
    changed = tmp_path / "deeplab-msc" / "train.prototxt"
    changed.write_text(changed.read_text().replace("shrink_factor: 8", "shrink_factor: 4"))
    assert make_prototxt.main(["--root", str(tmp_path), "--check"]) == 1
    assert str(changed) in capsys.readouterr().out
    assert "shrink_factor: 4" in changed.read_text()


def test_folders_of_the_six_nets_hold_no_other_file() -> None:
    folders = [make_prototxt.ROOT / model.folder for model in make_prototxt.MODELS]
    present = {str(path.relative_to(make_prototxt.ROOT)) for folder in folders for path in folder.rglob("*")}
    assert present | {"README.md"} == set(make_prototxt.files())
