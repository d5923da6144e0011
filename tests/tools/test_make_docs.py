"""docs/layers.md and README.md say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atrouscaffe.layers.base import layer_class, layer_types
from tools import make_docs


def test_check_on_the_checkout_finds_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_docs.main(["--check"]) == 0, f"run make generate: {capsys.readouterr().out}"


@pytest.mark.parametrize("name", ["docs/layers.md", "README.md"])
def test_check_when_a_file_differs_fails(name: str, tmp_path: Path) -> None:
    assert make_docs.main(["--check", "--root", str(tmp_path)]) == 1 and not (tmp_path / name).exists()
    assert make_docs.main(["--root", str(tmp_path)]) == 0
    assert make_docs.main(["--check", "--root", str(tmp_path)]) == 0
    (tmp_path / name).write_text((tmp_path / name).read_text() + "more\n")
    assert make_docs.main(["--check", "--root", str(tmp_path)]) == 1


def test_table_has_one_row_for_each_type() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", make_docs.layers_text(), re.MULTILINE)
    assert [name for name, _ in rows] == layer_types()
    for name, counts in rows:
        low = re.match(r"\d+", counts)
        assert low and int(low.group()) == layer_class(name).bottoms[0]
