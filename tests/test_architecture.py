"""The rooms of the house: imports go down only, heavy packages stay where they belong, starting is quick."""

from __future__ import annotations

import ast
import graphlib
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from atrouscaffe.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "atrouscaffe"
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"errors", "spec", "geometry", "resources", "alias", "plugins"}
WINGS = {"formats", "data", "metrics"}  # these see the ground alone
OPS = GROUND | {"runtime", "ops"}
LAYERS = OPS | WINGS | {"crf", "layers"}
NET = LAYERS | {"graph", "net", "weights", "fillers", "execution", "recorded", "arguments", "rows", "views"}
SEES = {  # room -> rooms that it may import, beside itself
    "errors": set(), "spec": {"errors"}, "geometry": {"errors"}, "resources": {"errors"},
    "alias": {"errors"}, "plugins": {"errors"}, "gradient_check": NET,
    "formats": GROUND, "data": GROUND, "metrics": GROUND,
    "runtime": GROUND, "ops": OPS, "crf": OPS, "pydensecrf": OPS | {"crf"},
    "layers": LAYERS | {"fillers"}, "graph": LAYERS, "net": NET, "weights": NET, "fillers": NET, "execution": NET,
    "recorded": NET, "arguments": GROUND | {"formats"}, "rows": GROUND, "views": OPS | {"layers"},
    "solver": NET | {"solver"}, "pipeline": NET | {"solver", "pipeline"},
    "pycaffe": NET | {"solver", "pipeline"},
    "cli": NET | {"solver", "pipeline", "pydensecrf", "pycaffe"}, "__init__": {"errors", "spec"}, "__main__": {"cli"},
}


def name_of(path: Path) -> str:
    """Dotted module name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path, top_level: bool = False) -> list[str]:
    """Dotted names that a file imports, `from package import module` resolved; type-checking blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {id(n) for block in ast.walk(tree) if isinstance(block, ast.If) and "TYPE_CHECKING" in
                   ast.unparse(block.test) for n in ast.walk(block)}
    found = []
    for node in tree.body if top_level else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else node.module or "" for name in whole]
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    room = (*path.relative_to(PACKAGE).with_suffix("").parts, "")[0]
    allowed = SEES[room] | {room}
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "atrouscaffe":
            assert len(parts) > 1 or room == "cli", f"{path}: imports the whole package"  # cli reads __version__
            assert len(parts) == 1 or parts[1] in allowed, f"{path}: {room} may not import {name}"
        if parts[0] in ("numba", "llvmlite"):
            assert path.stem.endswith("_cpu") or path == PACKAGE / "runtime/jit.py", f"{path}: imports {name}"
        if parts[0] == "cupy":
            assert path.stem.endswith("_cuda") or room == "runtime", f"{path}: imports {name}"


def test_rooms_and_modules_have_no_cycle() -> None:
    tuple(graphlib.TopologicalSorter({k: v - {k} for k, v in SEES.items() if k not in NET - LAYERS}).static_order())
    graph = {name: {target for target in imports(path) if target in MODULES and target != name}
             for name, path in MODULES.items()}  # also what is imported inside functions
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_has_a_docstring_and_a_telling_name(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert path.stem not in {"util", "helper", "helpers", "misc", "common", "manager"}
    assert path.stem != "utils" or path.parent.name == "pydensecrf"


def run(code: str, *flags: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *flags, "-c", code], text=True, capture_output=True, check=True, cwd=ROOT,
                          env=environment, timeout=60).stdout


@pytest.mark.parametrize("statement", ["import atrouscaffe", "import atrouscaffe.cli.main",
                                       "import atrouscaffe.cli.main as m; m.build_parser()"])
def test_start_loads_nothing_heavy(statement: str) -> None:
    heavy = {"numpy", "numba", "cupy", "cv2", "h5py", "google.protobuf", "lmdb", "PIL", "scipy", "skimage"}
    loaded = set(run(f"import sys; {statement}; print(*sys.modules, sep='\\n')").split())
    assert "atrouscaffe" in loaded
    assert not heavy & loaded


def test_every_command_has_its_module() -> None:
    assert {module for module, _ in COMMANDS.values()} <= set(MODULES)


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_help_answers_at_once() -> None:
    """Under 0.15 s of processor time, the median of five: other work on the machine adds to the wall clock only."""
    times = []
    for _ in range(5):
        start = processor_seconds()
        done = subprocess.run([sys.executable, "-m", "atrouscaffe", "--help"], cwd=ROOT, capture_output=True, text=True)
        times.append(processor_seconds() - start)
        assert done.returncode == 0 and "inspect" in done.stdout
    assert statistics.median(times) < 0.15, times
