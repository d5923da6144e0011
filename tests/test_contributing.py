"""The example of CONTRIBUTING.md works as it stands there, and the documents' links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from atrouscaffe.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "prototxt").rglob("*.md"),
                    *(ROOT / "kernels").glob("*.md")])


def test_example_layer_passes_its_example_test() -> None:
    layer, test = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    script = f"{layer}\n{test}".replace("from __future__ import annotations\n", "")
    names = re.findall(r"^def (test_\w+)", test, re.MULTILINE)
    assert len(names) == 2
    script += "".join(f"\n{name}()" for name in names) + "\nprint('ok')\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")],
                         ids=lambda path: path.name)
def test_files_that_documents_name_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:atrouscaffe|tests|tools|docs|benchmarks)/[\w./-]+\.(?:py|md|proto))`", text):
        if "softsign" not in name:  # the example's own file
            assert (ROOT / name).exists(), f"{document}: {name}"


def test_readme_lists_the_commands_as_they_are() -> None:
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, re.MULTILINE) == [
        (name, line) for name, (_, line) in COMMANDS.items()]
    for line in re.findall(r"^atrouscaffe (.*)$", text, re.MULTILINE):
        words = line.split()
        options = {option for action in build_parser(words[0])._subparsers._group_actions[0].choices[words[0]]._actions
                   for option in action.option_strings}
        assert {word for word in words if word.startswith("--")} <= options
