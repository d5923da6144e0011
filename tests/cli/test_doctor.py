"""The command `doctor`: what it prints, its exit status, and that a broken package hides nothing."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest

from atrouscaffe.cli.doctor import lines_of
from atrouscaffe.cli.main import main
from atrouscaffe.pipeline.doctor import Finding
from tests.conftest import ROOT


def doctor(*words: str, before: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run the command in a process of its own, after the statements `before`."""
    code = f"{before}\nimport sys; from atrouscaffe.cli.main import main; sys.exit(main({['doctor', *words]!r}))"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=120,
                          env={**os.environ, **environment})


def findings(text: str) -> dict[tuple[str, str], dict]:
    return {(entry["area"], entry["name"]): entry for entry in json.loads(text)["findings"]}


def test_everything_is_examined_and_nets_run_on_the_cpu() -> None:
    done = doctor("--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = findings(done.stdout)
    for area, name in (("system", "Python"), ("CPU engine", "NumPy"), ("CPU engine", "Numba"), ("files", "OpenCV"),
                       ("files", "h5py"), ("files", "Pillow"), ("files", "protobuf"), ("CPU engine", "a net")):
        assert found[area, name]["state"] == "ok", found[area, name]
        assert found[area, name]["essential"]
    assert found["CPU engine", "Numba"]["facts"]["bytes"] > 0
    assert found["CPU engine", "BLAS"]["facts"]["libraries"]
    assert found["system", "memory"]["facts"]["budget_bytes"] > 1e8
    assert {name for area, name in found if area == "GPU"} == {"driver", "CuPy", "NVRTC", "a net", "kernel cache"}
    assert json.loads(done.stdout)["healthy"] is True


def test_text_has_a_remedy_behind_everything_that_is_missing() -> None:
    done = doctor(before="import sys; sys.modules['lmdb'] = None")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "nets run on cpu here" in lines[-1]
    for line, after in itertools.pairwise(lines):
        if line.startswith(("  absent", "  broken")) and "to run a net on" not in line:
            assert "->" in after, line
    assert "pip install lmdb" in done.stdout


def test_a_terminals_lines_are_wrapped_below_their_column() -> None:
    finding = Finding("GPU", "driver", "absent", "no driver " * 9 + "/a" * 60, "install one " * 9, essential=False)
    lines = lines_of(finding, 80)
    assert lines[0].startswith("  absent  driver         no driver no")
    assert [line for line in lines if len(line) > 80] == [" " * 25 + "/a" * 60]  # paths are not cut
    assert [line[:28] for line in lines if "install" in line] == [" " * 25 + "-> ", " " * 28, " " * 28]
    assert lines_of(finding, None) == [f"  absent  driver         {finding.text}", f"{' ' * 25}-> {finding.remedy}"]


@pytest.mark.parametrize("missing", [
    {"h5py": ("files", "h5py", "pip install h5py"), "cv2": ("files", "OpenCV", "pip install opencv-python-headless"),
     "threadpoolctl": ("CPU engine", "BLAS", "threadpoolctl"),
     "google.protobuf": ("files", "protobuf", "pip install protobuf")},
    {"numba": ("CPU engine", "Numba", "pip install numba")}, {"numpy": ("CPU engine", "NumPy", "pip install numpy")}])
def test_missing_packages_are_named_and_hide_no_other(missing) -> None:
    done = doctor("--json", before=f"import sys; sys.modules.update(dict.fromkeys({list(missing)}))")
    assert (done.returncode, done.stderr) == (2, "")
    found = findings(done.stdout)
    for area, name, remedy in missing.values():
        assert found[area, name]["state"] == "absent" and remedy in found[area, name]["remedy"]
    assert "numpy" in missing or found["files", "Pillow"]["state"] == "ok"
    assert len(found) == 23


def test_a_package_that_breaks_while_it_is_imported_is_a_finding(tmp_path) -> None:
    (tmp_path / "h5py.py").write_text("raise RuntimeError('half of it\\nis missing')\n")
    done = doctor(PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (2, "")
    assert "RuntimeError: half of it\n" in done.stdout and "Pillow" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("essential and not working: files: h5py")


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    done = doctor("--json", ATROUSCAFFE_CACHE_DIR=str(tmp_path / "file"))
    assert done.returncode == 0
    found = findings(done.stdout)["CPU engine", "Numba"]
    assert found["state"] == "note" and "ATROUSCAFFE_CACHE_DIR" in found["remedy"]


def test_an_impossible_setting_is_told_with_its_name() -> None:
    done = doctor("--json", ATROUSCAFFE_MEMORY_BUDGET="much", ATROUSCAFFE_NUM_THREADS="none")
    assert (done.returncode, done.stderr) == (2, "")
    found = findings(done.stdout)
    assert found["system", "memory"]["state"] == "broken"
    assert "ATROUSCAFFE_NUM_THREADS" in found["CPU engine", "threads"]["text"]


def test_a_device_that_is_asked_for_is_essential(monkeypatch, capsys) -> None:
    from atrouscaffe.runtime import cuda

    monkeypatch.setattr(cuda, "probe", lambda: cuda.Probe("no device", "device 'cuda': nothing", "14.0", 13000, 13000))
    assert main(["doctor", "--device", "cuda"]) == 2
    assert "essential and not working: GPU: CuPy, GPU: a net" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert main(["doctor", "--device", "gpu"]) == 2
    assert "cuda:N" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "word"), [
    ("raise ImportError('libcudart.so.12: cannot open shared object file\\nmore')", "libcudart.so.12"),
    ("import a_module_of_cupy_that_is_not_there", "a_module_of_cupy_that_is_not_there")])
def test_a_cupy_that_cannot_be_loaded_is_told_from_none(tmp_path, text, word) -> None:
    (tmp_path / "cupy.py").write_text(f"{text}\n")
    done = doctor("--json", "--device", "cuda", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (2, "")
    found = findings(done.stdout)["GPU", "CuPy"]
    assert found["state"] == "broken" and found["facts"]["state"] == "cannot be loaded" and word in found["text"]
    assert "pip uninstall" in found["remedy"]


def test_two_packages_of_cupy_are_seen(tmp_path) -> None:
    for name in ("cupy_cuda12x", "cupy_cuda13x"):
        (tmp_path / f"{name}-14.0.dist-info").mkdir()
        (tmp_path / f"{name}-14.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 14.0\n")
    (tmp_path / "cupy.py").write_text("raise ImportError('both')\n")
    found = findings(doctor("--json", PYTHONPATH=str(tmp_path)).stdout)["GPU", "CuPy"]
    assert found["state"] == "broken"
    assert "cupy-cuda12x and cupy-cuda13x are installed over one another" in found["text"]
