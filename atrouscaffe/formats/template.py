"""Placeholders of templates: ``${NAME}``, which is DeepLab's, and those of others.

Published files also come with ``{{NAME}}``, ``@NAME@``, ``$NAME``, ``%(NAME)s``, or a bare word in place of a number,
as MobileNet-SSD's ``num_output: cls3x``. They are filled where their name is given, so that no other text changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from atrouscaffe.errors import ArgumentError, PrototxtError, Source

__all__ = ["Variables", "fill_placeholders", "hint_at"]

_STRING = r""""(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'"""
_PLACES = re.compile(rf"(?P<string>{_STRING})|#[^\n]*|(?P<bare>\$\{{[^}}\n]*\}}?)")
_NAME_IN = re.compile(r"\$\{([^}\n]*)\}?")
_MARKED = r"\{{\{{\s*(?:{names})\s*\}}\}}|@(?:{names})@|%\((?:{names})\)[dfgis]|\$(?:{names})(?!\w)"
_ANY = re.compile(_MARKED.format(names=r"[A-Za-z_]\w*") + r"|[A-Za-z_]\w*")
_NAME = re.compile(r"[A-Za-z_]\w*")


class Variables(dict):
    """Values of placeholders that know which of them were needed.

    Attributes
    ----------
    used : set of str
        Names of placeholders that were found in some text.
    """

    def __init__(self, *args: object, **values: object) -> None:
        super().__init__(*args, **values)
        self.used: set[str] = set()

    def check_used(self, option: str) -> None:
        """Raise ArgumentError where a name stands in none of the texts that were filled."""
        left = sorted(set(self) - self.used)
        if left:
            raise ArgumentError(f"{option} {left[0]}=...: the prototxt has no placeholder of this name, so that it has "
                                f"no effect; its placeholders are {', '.join(sorted(self.used)) or 'none'}")


def _mark(variables: Mapping[str, object], name: str) -> None:
    if isinstance(variables, Variables):
        variables.used.add(name)


def fill_placeholders(text: str, variables: Mapping[str, object] | None, path: str = "") -> str:
    """Replace each ``${NAME}`` outside comments, and other templates' placeholders whose name is given.

    Inside quotes the value is escaped, so a value cannot end its string.

    Raises
    ------
    PrototxtError
        A name that `variables` lacks, an empty or unclosed placeholder, or a value of several lines.
    """
    variables = variables or {}
    text = _fill_other_forms(text, variables)
    if "${" not in text:
        return text

    def value(match: re.Match[str], start: int, quote: str) -> str:
        name = match.group(1)
        filled = str(variables.get(name, ""))
        _mark(variables, name)
        problem = ""
        if not name or not match.group().endswith("}"):
            problem = f"expected a placeholder such as ${{NAME}}, got {match.group()!r}"
        elif name not in variables:
            problem = f"placeholder ${{{name}}} has no value; give {name}=..., on the command line " \
                      f"--set {name}=... (given: {', '.join(sorted(variables)) or 'none'})"
        elif "\n" in filled or "\r" in filled:
            problem = f"the value of placeholder ${{{name}}} has several lines"
        if problem:
            raise PrototxtError(problem, str(_place(text, start + match.start(), path)))
        if quote:
            filled = filled.replace("\\", "\\\\").replace(quote, "\\" + quote)
        return filled

    def whole(match: re.Match[str]) -> str:
        if match.group("string"):
            quote = match.group()[0]
            return _NAME_IN.sub(lambda inner: value(inner, match.start(), quote), match.group())
        if match.group("bare"):
            return _NAME_IN.sub(lambda inner: value(inner, match.start(), ""), match.group())
        return match.group()

    return _PLACES.sub(whole, text)


def _place(text: str, position: int, path: str) -> Source:
    line = text.count("\n", 0, position) + 1
    return Source(path, line, position - text.rfind("\n", 0, position))


def _fill_other_forms(text: str, variables: Mapping[str, object]) -> str:
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
        if found:
            _mark(variables, found.group())
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


def hint_at(text: str, position: int) -> str:
    """Return what to do where a placeholder stands in place of a value, "" where there is none."""
    match = _ANY.match(text, position)
    found = _NAME.search(match.group()) if match else None
    name = found.group()[:60] if found else ""
    if not name:
        return ""
    return f"; if that is a template's placeholder, give {name}=..., on the command line --set {name}=..."
