#!/usr/bin/env python3
"""Write docs/layers.md from the layer classes themselves.

    python tools/make_docs.py            write the file
    python tools/make_docs.py --check    exit 1 if it differs from what would be written
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

from atrouscaffe.layers.base import Layer, layer_class, layer_types

PATH = Path(__file__).resolve().parent.parent / "docs" / "layers.md"
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


def span(counts: tuple[int, int | None]) -> str:
    """Write (fewest, most) briefly."""
    low, high = counts
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}–{high}"


def parts(cls: type[Layer]) -> tuple[str, str]:
    """Return a class's first docstring paragraph in one line, and its Notes section."""
    text = inspect.cleandoc(cls.__doc__ or "")
    first = " ".join(text.split("\n\n")[0].split())
    if not first:
        raise SystemExit(f"make_docs: {cls.__module__}.{cls.__name__} has no docstring")
    found = re.search(r"^Notes\n-----\n(.*?)(?=^\w[^\n]*\n---|\Z)", text, re.DOTALL | re.MULTILINE)
    return first.replace("``", "`"), found.group(1).strip().replace("``", "`") if found else ""


def text() -> str:
    """Return the whole file."""
    rows, notes = [], []
    for name in layer_types():
        cls = layer_class(name)
        first, more = parts(cls)
        tops = "=" if cls.same_tops else span((0, cls.tops[1]) if cls.auto_tops else cls.tops)
        options = f"`{cls.options}`" if cls.options else ""
        rows.append(f"| `{name}` | {span(cls.bottoms)} → {tops} | {options} | {'yes' if cls.in_place else ''} | "
                    f"{'yes' if cls.has_backward else 'no'} | {first.replace('|', chr(92) + '|')} |")
        if more:
            notes.append(f"### {name}\n\n{more}\n")
    body = HEAD.format(count=len(rows), rows="\n".join(rows))
    return body + (NOTES + "\n" + "\n".join(notes) if notes else "")


def main(argv: list[str] | None = None) -> int:
    """Write or check the file; return the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/layers.md from the layer classes.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file differs")
    parser.add_argument("--path", type=Path, default=PATH, help="file to write")
    options = parser.parse_args(argv)
    fresh = text()
    if options.path.is_file() and options.path.read_text(encoding="utf-8") == fresh:
        return 0
    print(f"{'differs' if options.check else 'written'}: {options.path}")
    if options.check:
        return 1
    options.path.parent.mkdir(parents=True, exist_ok=True)
    options.path.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
