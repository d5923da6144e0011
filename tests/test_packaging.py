"""Wheel, source distribution, editable install and plain checkout all find kernels/ and prototxt/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from atrouscaffe.errors import FileMissingError
from atrouscaffe.resources import resource

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
import json, sys
import atrouscaffe
from atrouscaffe.resources import resource
net, kernel = resource("prototxt", "deeplab-largefov/deploy.prototxt"), resource("kernels", "README.md")
top = net.parent.parent
print(json.dumps({"package": atrouscaffe.__file__, "net": str(net), "kernel": str(kernel), "text": net.read_text(),
                  "version": atrouscaffe.__version__, "kernels": sorted(p.name for p in kernel.parent.iterdir()),
                  "nets": sorted(str(p.relative_to(top)) for p in top.rglob("*")
                                 if p.is_file() and p.name != "train.h5")}))
"""


def clean_environment() -> dict[str, str]:
    """Return the environment without what would make the checkout importable."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}


def run(*command: object, cwd: Path) -> str:
    """Run a command in a clean environment and return its output; fail with what it said."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean_environment(), text=True,
                          capture_output=True, timeout=240)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build wheel, source distribution and editable wheel from a copy of the checkout, without an index."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("packaging")
    checkout = folder / "checkout"
    skip = shutil.ignore_patterns(".git", ".venv", "oracle", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, checkout, ignore=skip)
    rows = checkout / "prototxt/lenet/data/train.h5"  # as tools/idx_to_hdf5.py leaves them
    rows.parent.mkdir(exist_ok=True)
    rows.write_bytes(b"rows")
    script = ("import pathlib, sys, setuptools.build_meta as backend; kind, folder, name = sys.argv[1:]; "
              "pathlib.Path(name).write_text(getattr(backend, 'build_' + kind)(folder))")
    made = {"checkout": checkout}
    for kind in ("sdist", "editable"):
        name = folder / f"{kind}.txt"
        run(sys.executable, "-W", "ignore", "-c", script, kind, folder / kind, name, cwd=checkout)
        made[kind] = folder / kind / name.read_text().strip()
    with tarfile.open(made["sdist"]) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    source = next((folder / "unpacked").iterdir())
    stale = source / "build/lib/atrouscaffe/_data/kernels/stale.cu"  # as an older version's build leaves them
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    name = folder / "wheel.txt"
    run(sys.executable, "-W", "ignore", "-c", script, "wheel", folder / "wheel", name, cwd=source)
    made["wheel"] = folder / "wheel" / name.read_text().strip()
    return made


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a fresh environment, without dependencies or an index; return its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
        "--disable-pip-version-check", wheel, cwd=folder)
    return python


def expected_nets() -> list[str]:
    return sorted(str(path.relative_to(ROOT / "prototxt")) for path in (ROOT / "prototxt").rglob("*")
                  if path.is_file() and "data" not in path.relative_to(ROOT).parts)


def check(report: dict, package: Path) -> None:
    """Compare what an installation found with the checkout."""
    assert Path(report["package"]).is_relative_to(package)
    assert Path(report["net"]).is_relative_to(package)
    assert report["text"] == (ROOT / "prototxt/deeplab-largefov/deploy.prototxt").read_text()
    assert report["nets"] == expected_nets()
    assert report["kernels"] == sorted(path.name for path in (ROOT / "kernels").iterdir() if path.is_file())


def test_wheel_when_installed_finds_its_files(built: dict[str, Path], tmp_path: Path) -> None:
    python = install(built["wheel"], tmp_path)
    check(json.loads(run(python, "-c", PROBE, cwd=tmp_path)), tmp_path / "venv")
    assert "segment" in run(python.parent / "atrouscaffe", "--help", cwd=tmp_path)


def test_wheel_holds_every_module_and_no_test(built: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "atrouscaffe").rglob("*.py")}
    assert modules <= names
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "atrouscaffe/formats").glob("caffe.*")} <= names
    assert "atrouscaffe/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "benchmarks/", "kernels/", "prototxt/"))]
    assert not [name for name in names if "stale" in name or ("/data/" in name and name.endswith(".h5"))]


def test_editable_install_reads_the_checkout(built: dict[str, Path], tmp_path: Path) -> None:
    python = install(built["editable"], tmp_path)
    report = json.loads(run(python, "-c", PROBE, cwd=tmp_path))
    check(report, built["checkout"])
    assert Path(report["net"]) == built["checkout"] / "prototxt/deeplab-largefov/deploy.prototxt"


def test_source_distribution_holds_what_builds_it(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "kernels/README.md"} <= names
    assert {f"prototxt/{name}" for name in expected_nets()} <= names
    assert not [name for name in names if name.startswith("prototxt/lenet/data/")]


def test_plain_checkout_finds_its_files() -> None:
    assert resource("prototxt", "deeplab/deploy.prototxt") == ROOT / "prototxt/deeplab/deploy.prototxt"
    assert resource("kernels") == ROOT / "kernels"


@pytest.mark.parametrize(("folder", "name", "hint"), [
    ("prototxt", "deeplab/deplyo.prototxt", "deeplab/deploy.prototxt"), ("prototxt", "../setup.py", "no file"),
    ("nets", "", "expected one of kernels, prototxt"), ("kernels", "/etc/hostname", "no file")])
def test_resource_when_missing_says_so(folder: str, name: str, hint: str) -> None:
    with pytest.raises(FileMissingError, match=hint):
        resource(folder, name)


def test_metadata_names_licence_and_dependencies(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as archive:
        name = next(n for n in archive.namelist() if n.endswith("METADATA"))
        text = archive.read(name).decode()
    lines = text.splitlines()
    assert "License-Expression: BSD-2-Clause" in lines and "Requires-Python: >=3.11" in lines
    needs = [line.split(": ")[1] for line in lines if line.startswith("Requires-Dist") and ";" not in line]
    required = {need.split(">")[0] for need in needs}
    assert required == {"numpy", "numba", "protobuf", "h5py", "opencv-python-headless", "Pillow", "threadpoolctl"}
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")}
    assert extras == {"lmdb", "leveldb", "cuda12", "cuda13", "demo", "proto", "test"}
