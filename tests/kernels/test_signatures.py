"""Kernels and their launches agree, as far as it can be read from the text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import atrouscaffe
from atrouscaffe.errors import DeviceError
from atrouscaffe.runtime.kernels import Parameter, kernel_files, kernel_text, launch, signatures

PACKAGE = Path(atrouscaffe.__file__).parent
STARTS = ("launch", "prepare")
MODULES = sorted(path for path in PACKAGE.rglob("*.py")
                 if re.search(r"runtime\.kernels import .*\b(?:launch|prepare)\b", path.read_text(encoding="utf-8")))


def patterns(node: ast.expr) -> list[str]:
    """Return regular expressions of the strings that an expression may be; any string where it cannot be told."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.escape(node.value)]
    if isinstance(node, ast.IfExp):
        return patterns(node.body) + patterns(node.orelse)
    if isinstance(node, ast.JoinedStr):
        parts = [patterns(part)[0] if isinstance(part, ast.Constant) else r"\w+" for part in node.values]
        return ["".join(parts)]
    return [r"\w+"]


def launches(path: Path) -> list[ast.Call]:
    """Return the calls of `launch` and `prepare` in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id in STARTS]


CALLS = [pytest.param(path, call, id=f"{path.stem}:{call.lineno}") for path in MODULES for call in launches(path)]


@pytest.mark.parametrize("path, call", CALLS)
def test_launch_names_kernels_that_exist_with_as_many_arguments(path, call):
    assert len(call.args) == 4, "launch(file, function, size, args, ...)"
    files = [file for pattern in patterns(call.args[0]) for file in kernel_files() if re.fullmatch(pattern, file)]
    assert files, f"{path.name}:{call.lineno}: no such file in kernels/"
    names = {name: len(parameters) for file in files for name, parameters in signatures(file).items()
             if any(re.fullmatch(pattern, name) for pattern in patterns(call.args[1]))}
    assert names, f"{path.name}:{call.lineno}: no such kernel in {files}"
    values = call.args[3]
    if isinstance(values, ast.Tuple):
        plain = sum(not isinstance(value, ast.Starred) for value in values.elts)
        starred = plain < len(values.elts)
        assert any(count >= plain if starred else count == plain for count in names.values()), \
            f"{path.name}:{call.lineno}: {plain} arguments, the kernels have {names}"


def strings(path: Path) -> set[str]:
    """Return the regular expressions of all strings in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {pattern for node in ast.walk(tree) if isinstance(node, (ast.Constant, ast.JoinedStr))
            for pattern in patterns(node)} - {r"\w+"}


def test_every_kernel_is_launched():
    said: dict[str, set[str]] = {}  # by file of kernels: strings in the modules that launch it, and in their contracts
    for path in MODULES:
        contract = path.with_name(path.name.replace("_cuda.py", ".py"))
        found = strings(path) | (strings(contract) if contract.exists() else set())
        for call in launches(path):
            for pattern in patterns(call.args[0]):
                said.setdefault(pattern, set()).update(found)
    idle = [f"{file}.cu: {name}" for file in kernel_files() for name in signatures(file)
            if not any(re.fullmatch(pattern, name, re.IGNORECASE) for pattern in said.get(re.escape(file), ()))]
    assert not idle, idle


@pytest.mark.parametrize("file", kernel_files())
def test_every_kernel_is_declared_in_a_form_that_launch_reads(file):
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", kernel_text(file), flags=re.DOTALL)
    assert len(signatures(file)) == len(re.findall(r"\b__global__\b", text)) > 0
    for parameters in signatures(file).values():
        assert all(parameter.dtype(np.float32) for parameter in parameters)


@pytest.mark.parametrize("file", kernel_files())
def test_kernels_add_no_floats_atomically_and_include_nothing_but_cuda(file):
    text = kernel_text(file)
    assert set(re.findall(r"#\s*include\s*(\S+)", text)) <= {"<cuda_fp16.h>"}
    assert not re.search(r"atomicAdd\s*\(\s*\(?\s*(real|float|double|half)\b", text)


def test_parameter_reads_the_type():
    assert Parameter("x", "real", True).dtype(np.float64) == np.float64
    assert Parameter("n", "unsigned", False).dtype(np.float32) == np.uint32


def test_launch_refuses_what_does_not_fit():
    with pytest.raises(DeviceError, match="there is no such kernel"):
        launch("im2col", "im3col", 5, ())
    with pytest.raises(DeviceError, match="expected 16 arguments, got 1"):
        launch("im2col", "im2col", 5, (None,))
    with pytest.raises(DeviceError, match="count: expected a number that fits int32, got 2147483648"):
        launch("im2col", "im2col", 5, (None, None, 2**31, *range(13)))
    with pytest.raises(DeviceError, match="images: expected an array on the device, got ndarray"):
        launch("im2col", "im2col", 5, (np.zeros(3, np.float32), None, *range(14)))
