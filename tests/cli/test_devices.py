"""--device and --precision reach the nets of every command that runs one."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from atrouscaffe.cli.main import COMMANDS, build_parser, main
from atrouscaffe.cli.options import PRECISIONS
from atrouscaffe.data.palette import read_labels
from atrouscaffe.net import Net
from atrouscaffe.pipeline.benchmark import synthetic_picture
from atrouscaffe.pipeline.speed import fill_at_random
from atrouscaffe.runtime import cuda
from tests.benchmarks.models import write_model

RUNNING_NETS = ("segment", "evaluate", "reproduce", "submit", "train", "test", "time", "classify", "benchmark",
                "detect")
on_a_device = pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Net(write_model(tmp_path), seed=0)
    fill_at_random(net)
    net.save("w.caffemodel")
    (tmp_path / "a.jpg").write_bytes(synthetic_picture(60, 1).data)
    return tmp_path


def options(command: str) -> dict[str, argparse.Action]:
    parser = build_parser(command)._subparsers._group_actions[0].choices[command]
    return {name: action for action in parser._actions for name in action.option_strings}


def test_precisions_are_those_of_the_engine() -> None:
    assert PRECISIONS == cuda.PRECISIONS
    for command in RUNNING_NETS:
        assert options(command)["--precision"].choices == PRECISIONS
        assert (options(command)["--device"].default, options(command)["--precision"].default) == ("cpu", "fp32")
    assert {command for command in COMMANDS if "--precision" in options(command)} == set(RUNNING_NETS)


@on_a_device
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999), ("tf32", 0.98), ("fp16", 0.98)])
def test_segment(device, folder, precision, least, capsys) -> None:
    words = ["segment", "a.jpg", "--model", "deploy.prototxt", "--weights", "w.caffemodel", "--mean", "104",
             "--no-overlay"]
    assert main([*words, "--out", "cpu"]) == 0
    assert main([*words, "--out", "gpu", "--device", device, "--precision", precision]) == 0
    assert np.mean(read_labels("cpu/a.png") == read_labels("gpu/a.png")) >= least


@on_a_device
def test_compare_finds_where_precisions_part(device, folder, capsys) -> None:
    words = ["compare", "w.caffemodel", "w.caffemodel", "a.jpg", "--model", "deploy.prototxt", "--mean", "104",
             "--device-b", device]
    assert main(words) == 0
    assert "every layer agrees" in capsys.readouterr().out
    assert main([*words, "--precision-b", "fp16"]) == 1
    assert "the first layer that diverges is a (Convolution)" in capsys.readouterr().out
    assert main([*words, "--precision-b", "fp16", "--rtol", "1e-2"]) == 0


@on_a_device
def test_classify(device, folder, capsys) -> None:
    (folder / "c.prototxt").write_text("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 9 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
                inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.01 } } }
        layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }""")
    Net("c.prototxt", seed=2).save("c.caffemodel")
    words = ["classify", "a.jpg", "--model", "c.prototxt", "--weights", "c.caffemodel", "--out"]
    assert main([*words, "cpu.npy"]) == 0
    for name, more in (("gpu", ["--gpu"]), ("half", ["--device", device, "--precision", "fp16"])):
        assert main([*words, f"{name}.npy", *more]) == 0
    cpu, gpu, half = (np.load(f"{name}.npy") for name in ("cpu", "gpu", "half"))
    np.testing.assert_allclose(gpu, cpu, atol=1e-5)
    assert 0 < abs(half - cpu).max() < 1e-2


def test_classify_refuses_nets_that_label_pixels(folder, capsys) -> None:
    assert main(["classify", "a.jpg", "--model", "deploy.prototxt", "--weights", "w.caffemodel", "--center-only"]) == 2
    assert "expected a net with one score a class" in capsys.readouterr().err


@on_a_device
def test_reproduce_measures_the_device(device, folder, monkeypatch, capsys) -> None:
    from atrouscaffe.pipeline import reproduce

    seen = []
    monkeypatch.setattr(reproduce, "forward_seconds", lambda model, side, device, precision: seen.append(
        (model, device, precision)) or (0.5, side))
    assert main(["reproduce", "speed", "--stand-in", "--device", device, "--precision", "fp16", "--out", "r"]) == 1
    assert seen == [("deeplab", device, "fp16"), ("deeplab-largefov", device, "fp16")]


@pytest.mark.parametrize("command", [
    "segment a.jpg --model deploy.prototxt --weights w.caffemodel --mean 1", "time --model deploy.prototxt",
    "classify a.jpg --model deploy.prototxt --weights w.caffemodel", "benchmark --model deploy.prototxt"])
def test_the_cpu_has_one_precision(folder, command, capsys) -> None:
    assert main([*command.split(), "--precision", "tf32"]) == 2
    assert "expected 'fp32' on device 'cpu'" in capsys.readouterr().err
