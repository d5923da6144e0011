#!/usr/bin/env python3
"""Write what documents repeat from the code: docs/layers.md, docs/zoo.md, the table of commands in README.md.

    python tools/make_docs.py            write the files
    python tools/make_docs.py --check    exit 1 if one differs from what would be written
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

from atrouscaffe.cli.main import COMMANDS
from atrouscaffe.graph.layer_list import layer_list
from atrouscaffe.layers.base import Layer, layer_class

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
HEAD = """# Layer types

{count} types, under the names of BVLC Caffe; the upper-case names of the first DeepLab fork (`SOFTMAX_LOSS`) and its
fields mean the same layers. Written by `tools/make_docs.py` from the classes in `atrouscaffe/layers/`: edit those.

- *bottoms → tops*: how many blobs a layer reads and writes; `n+` is n or more, `=` as many tops as bottoms.
- *options*: the message in the layer that holds its options.
- *in place*: whether the first top may be the first bottom.
- *backward*: whether gradients pass.

| type | bottoms → tops | options | in place | backward | what it does |
| --- | --- | --- | --- | --- | --- |
{rows}
"""
NOTES = """
## Notes

Sources, formulas and every known difference from the original, as the classes' docstrings have them.
"""
COMMAND_TABLE = re.compile(r"(?<=\| command \| what it does \|\n\| --- \| --- \|\n)(?:\|.*\|\n)*")


def notes_of(cls: type[Layer]) -> str:
    """Return the Notes section of a class's docstring."""
    text = inspect.cleandoc(cls.__doc__ or "")
    found = re.search(r"^Notes\n-----\n(.*?)(?=^\w[^\n]*\n---|\Z)", text, re.DOTALL | re.MULTILINE)
    return found.group(1).strip().replace("``", "`") if found else ""


def layers_text() -> str:
    """Return docs/layers.md: the types of this package, whatever plug-ins are installed."""
    rows, notes = [], []
    for entry in layer_list():
        if entry.package:
            continue
        if not entry.summary:
            raise SystemExit(f"make_docs: {entry.type} has no docstring")
        summary = entry.summary.replace("``", "`").replace("|", chr(92) + "|")
        options = f"`{entry.options}`" if entry.options else ""
        rows.append(f"| `{entry.type}` | {entry.bottoms} → {entry.tops} | {options} | "
                    f"{'yes' if entry.in_place else ''} | {'yes' if entry.backward else 'no'} | {summary} |")
        more = notes_of(layer_class(entry.type))
        if more:
            notes.append(f"### {entry.type}\n\n{more}\n")
    body = HEAD.format(count=len(rows), rows="\n".join(rows))
    return body + (NOTES + "\n" + "\n".join(notes) if notes else "")


def readme_text() -> str:
    """Return README.md with its table of commands made anew."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = "".join(f"| `{name}` | {line} |\n" for name, (_, line) in COMMANDS.items())
    fresh, count = COMMAND_TABLE.subn(lambda _: rows, text)
    if count != 1:
        raise SystemExit("make_docs: README.md has no table of commands ('| command | what it does |')")
    return fresh


def files() -> dict[str, str]:
    """Return every file as path under the repository and text."""
    from tools.zoo import zoo_text

    return {"docs/layers.md": layers_text(), "docs/zoo.md": zoo_text(), "README.md": readme_text()}


def main(argv: list[str] | None = None) -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/layers.md, docs/zoo.md and README.md's table of commands.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder to write into")
    options = parser.parse_args(argv)
    different = False
    for name, text in files().items():
        path = options.root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        different = True
        print(f"{'differs' if options.check else 'written'}: {path}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if options.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
