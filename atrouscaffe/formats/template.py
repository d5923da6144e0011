"""Placeholders of other templates than ``${NAME}``, which is DeepLab's.

Published files come with ``{{NAME}}``, ``@NAME@``, ``$NAME``, ``%(NAME)s``, or a bare word in place of a number, as
MobileNet-SSD's ``num_output: cls3x``. They are filled where their name is given, so that no other text changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from atrouscaffe.errors import PrototxtError

__all__ = ["fill_other_forms", "placeholder_at"]

_STRING = r""""(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'"""
_MARKED = r"\{{\{{\s*(?:{names})\s*\}}\}}|@(?:{names})@|%\((?:{names})\)[dfgis]|\$(?:{names})(?!\w)"
_ANY = re.compile(_MARKED.format(names=r"[A-Za-z_]\w*") + r"|[A-Za-z_]\w*")
_NAME = re.compile(r"[A-Za-z_]\w*")


def fill_other_forms(text: str, variables: Mapping[str, object]) -> str:
    """Replace placeholders of the names in `variables`, outside comments; inside quotes the marked forms alone.

    Raises
    ------
    PrototxtError
        A value of several lines.
    """
    values = {name: str(value) for name, value in variables.items() if _NAME.fullmatch(name)}
    if not values:
        return text
    names = "|".join(sorted(values, key=len, reverse=True))
    marked = re.compile(_MARKED.format(names=names))
    places = re.compile(rf"(?P<string>{_STRING})|#[^\n]*|(?P<bare>{marked.pattern})|"
                        rf"(?<=:)(?P<space>\s*)(?P<word>{names})(?!\w)")

    def filled(placeholder: str, quote: str) -> str:
        found = _NAME.search(placeholder)
        value = values[found.group()] if found else placeholder
        if "\n" in value or "\r" in value:
            raise PrototxtError(f"the value of placeholder {placeholder} has several lines")
        return value.replace("\\", "\\\\").replace(quote, "\\" + quote) if quote else value

    def whole(match: re.Match[str]) -> str:
        if match.group("string"):
            return marked.sub(lambda inner: filled(inner.group(), match.group()[0]), match.group())
        if match.group("bare"):
            return filled(match.group(), "")
        return match.group("space") + filled(match.group("word"), "") if match.group("word") else match.group()

    return places.sub(whole, text)


def placeholder_at(text: str, position: int) -> str:
    """Return the name of what may be a placeholder at a place where a value should be, "" for none."""
    match = _ANY.match(text, position)
    found = _NAME.search(match.group()) if match else None
    return found.group() if found else ""
