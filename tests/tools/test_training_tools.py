"""The training tools: IDX to HDF5, a LeNet trained from it, a run that is killed, a few photographs by heart."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from atrouscaffe import get_solver
from atrouscaffe.resources import resource
from tests.conftest import ROOT


def tool(name: str):
    """Import a script of tools/."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_idx_becomes_hdf5_for_training_and_testing(tmp_path, capsys):
    import h5py

    images = np.random.default_rng(0).integers(0, 256, (11, 5, 7), np.uint8)
    labels = np.arange(11, dtype=np.uint8)
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "labels").write_bytes(idx(labels))
    assert tool("idx_to_hdf5").main([str(tmp_path / "images.gz"), str(tmp_path / "labels"), "--test-rows", "3",
                                     "--out", str(tmp_path / "data")]) == 0
    with h5py.File(tmp_path / "data/train.h5") as train, h5py.File(tmp_path / "data/test.h5") as test:
        assert train["data"].shape == (8, 1, 5, 7) and train["data"].dtype == np.float32
        np.testing.assert_array_equal(test["data"][1, 0], images[9] / 256)
        np.testing.assert_array_equal(test["label"], [8, 9, 10])
    assert (tmp_path / "data/train.txt").read_text() == "data/train.h5\n"


@pytest.mark.parametrize("data", [b"", b"\0\0\x08", b"text", idx(np.zeros((3, 4), np.uint8))[:-1],
                                  idx(np.zeros((3, 4), np.uint8)) + b"x", b"\0\0\x08\x02" + b"\xff" * 8 + b"12",
                                  b"\0\0\x07\x01\0\0\0\1\0"])
def test_bad_idx_is_refused(data, tmp_path):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(SystemExit, match="a: expected"):
        tool("idx_to_hdf5").read_idx(tmp_path / "a")


def test_lenet_learns_digits_from_the_idx_files(tmp_path, monkeypatch, shared_data):
    mnist = shared_data / "mnist"
    folder = tmp_path / "lenet"
    folder.mkdir()
    for name in ("train_test", "solver"):
        (folder / f"{name}.prototxt").write_text(resource("prototxt", f"lenet/{name}.prototxt").read_text())
    tool("idx_to_hdf5").main([str(mnist / "t10k-images-idx3-ubyte.gz"), str(mnist / "t10k-labels-idx1-ubyte.gz"),
                              "--out", str(folder / "data")])
    monkeypatch.chdir(folder)
    solver = get_solver("solver.prototxt", log=lambda line: None)
    solver.step(60)
    scores = []
    solver.listeners.append(lambda event: scores.append(event.outputs["accuracy"][0]))
    solver.test_all()
    assert scores[0] > 0.88  # 97 % take some 300 iterations, 98.5 % a thousand


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_killed_run_resumes_to_the_same_weights(form, capsys):
    """Two kills here; ``python tools/kill_test.py --kills 20`` is the long form."""
    status = tool("kill_test").main(["--kills", "2", "--iterations", "25", "--format", form, "--longest", "0.15",
                                     "--seed", "11"])
    out = capsys.readouterr().out
    assert "equal bit for bit" in out and "0 temporary files left" in out, out
    assert status == 0 or "the run ended after" in out


def test_overfitting_goes_through_both_stages(tmp_path, shared_data, capsys):
    """A few iterations of nets with a fiftieth of the channels: the scores mean nothing, the steps are all there."""
    words = ["--voc", str(shared_data / "voc"), "--out", str(tmp_path), "--images", "2", "--width", "0.02", "--batch",
             "1", "--iterations", "3", "--msc-iterations", "2"]
    tool("overfit_largefov").main(words)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["deeplab-largefov"]["iteration"] == 3 and result["deeplab-msc-largefov"]["iteration"] == 2
    before = result["deeplab-msc-largefov"]["first_loss"]
    assert before == pytest.approx(result["deeplab-largefov"]["loss"], rel=0.2)  # it starts where the first one ended
    for stage in result:
        assert (tmp_path / stage / "chart.svg").exists() and (tmp_path / stage / "log.jsonl").exists()
        assert Path(tmp_path / stage / "photographs.txt").read_text().count("\n") == 2
