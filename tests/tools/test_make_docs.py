"""docs/layers.md and README.md say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atrouscaffe.data.label_sets import label_set_names
from atrouscaffe.layers.base import layer_class, layer_types
from atrouscaffe.pipeline.known import KNOWN
from tools import make_docs, zoo


def test_check_on_the_checkout_finds_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_docs.main(["--check"]) == 0, f"run make generate: {capsys.readouterr().out}"


@pytest.mark.parametrize("name", ["docs/layers.md", "docs/zoo.md", "README.md"])
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


def test_zoo_has_a_row_for_each_system_and_each_model() -> None:
    text = zoo.zoo_text()
    systems, models, labels = (re.findall(r"^\| ([^|]+?) \|", part, re.MULTILINE)[2:]
                               for part in text.split("\n## ")[1:])
    assert systems == [system.name for system in zoo.SYSTEMS]
    assert set(systems) == {model.system for model in KNOWN}
    assert models == [f"`{model.name}`" for model in KNOWN]
    assert labels == [f"`{name}`" for name in label_set_names()]


def test_zoo_says_what_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    row = zoo.SYSTEMS[0]._replace(probe='layer { name: "l" type: "Interq" bottom: "data" top: "top" }')
    monkeypatch.setattr(zoo, "SYSTEMS", (row, *zoo.SYSTEMS[1:]))
    assert "not yet: unknown layer type 'Interq'" in zoo.zoo_text()
    monkeypatch.setattr(zoo, "SYSTEMS", zoo.SYSTEMS[1:])
    with pytest.raises(SystemExit, match="no row for DeepLab"):
        zoo.zoo_text()
