"""Every layer type with a backward has a gradient check in float64, in some test of this folder.

What a test is about is read from its text: the layer types in the strings that it, its decorators and
the functions and constants of its module that it names are made of.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from atrouscaffe.layers.base import layer_class, layer_types

CHECKS = {"check_layer", "check_gradient", "check_gradients"}
USERS_CODE = {"Python"}  # its backward is not ours
WITH_BACKWARD = [name for name in layer_types() if layer_class(name).has_backward and name not in USERS_CODE
                 and layer_class(name).bottoms != (0, 0)]


def checks_gradients(call: ast.Call) -> bool:
    """Whether a call compares gradients: one of CHECKS, and not with ``gradient=False``."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    off = any(word.arg == "gradient" and isinstance(word.value, ast.Constant) and not word.value.value
              for word in call.keywords)
    return name in CHECKS and not off


def covered(source: str) -> set[str]:
    """Return the words in the strings of all tests of a module that check gradients."""
    module = ast.parse(source)
    named: dict[str, ast.AST] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            named[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named[node.targets[0].id] = node.value
    words: set[str] = set()
    for name, node in named.items():
        if not name.startswith("test_"):
            continue
        seen, waiting = {name}, [node]
        parts: list[ast.AST] = []
        while waiting:
            part = waiting.pop()
            parts.append(part)
            for inner in ast.walk(part):
                if isinstance(inner, ast.Name) and inner.id in named and inner.id not in seen:
                    seen.add(inner.id)
                    waiting.append(named[inner.id])
        inside = [inner for part in parts for inner in ast.walk(part)]
        if any(isinstance(inner, ast.Call) and checks_gradients(inner) for inner in inside):
            words.update(word for inner in inside if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                         for word in re.findall(r"\w+", inner.value))
    return words


@pytest.fixture(scope="module")
def checked() -> set[str]:
    """Words in all tests of this folder that check gradients."""
    here = Path(__file__)
    return set().union(*(covered(path.read_text()) for path in here.parent.glob("test_*.py") if path != here))


@pytest.mark.parametrize("name", WITH_BACKWARD)
def test_layer_has_a_gradient_check(name, checked):
    assert name in checked, f"no test in tests/layers checks the gradient of {name} against central differences"


def test_a_check_without_gradients_does_not_count():
    sound = 'def ip(p):\n    return f"type: InnerProduct {p}"\ndef test_a():\n    check_layer(ip(""), {})\n'
    assert "InnerProduct" in covered(sound)
    assert "InnerProduct" not in covered(sound.replace("{})", "{}, gradient=False)"))
    assert "InnerProduct" not in covered(sound.replace("check_layer", "forward"))
    assert len(WITH_BACKWARD) > 50
