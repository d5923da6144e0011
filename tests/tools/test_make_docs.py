"""docs/layers.md says what the layer classes say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atrouscaffe.layers.base import layer_class, layer_types
from tools import make_docs


def test_check_on_the_checkout_finds_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_docs.main(["--check"]) == 0, f"run python tools/make_docs.py: {capsys.readouterr().out}"


def test_check_when_the_file_differs_fails(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "layers.md"
    assert make_docs.main(["--check", "--path", str(path)]) == 1 and not path.exists()
    assert make_docs.main(["--path", str(path)]) == 0
    assert make_docs.main(["--check", "--path", str(path)]) == 0
    path.write_text(path.read_text() + "more\n")
    assert make_docs.main(["--check", "--path", str(path)]) == 1


def test_table_has_one_row_for_each_type() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", make_docs.text(), re.MULTILINE)
    assert [name for name, _ in rows] == layer_types()
    for name, counts in rows:
        low = int(re.match(r"\d+", counts).group())
        assert low == layer_class(name).bottoms[0]
