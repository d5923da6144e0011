"""The caffe program's commands and spellings, and lines that parsers of Caffe's logs read."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pytest

import atrouscaffe.pycaffe as caffe
from atrouscaffe.cli.caffe_options import respell
from atrouscaffe.cli.main import main
from atrouscaffe.runtime import cuda

NET = """
name: "small"
layer { name: "x" type: "DummyData" top: "x" top: "label" dummy_data_param { shape { dim: 4 dim: 3 }
  shape { dim: 4 } data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "right" type: "Accuracy" bottom: "ip" bottom: "label" top: "right" include { phase: TEST } }
layer { name: "extra" type: "Power" bottom: "x" top: "extra" include { stage: "more" min_level: 2 } }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.1 random_seed: 5 lr_policy: "step" gamma: 0.5 stepsize: 3 max_iter: 6
display: 2 momentum: 0.9 test_iter: 2 test_interval: 3 snapshot_prefix: "model" """

PREFIX = re.compile(r"I(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) +\d+ \S+\] ")


def run(command):
    """Run a command line and return its exit status."""
    return main(command.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


@pytest.mark.parametrize(("given", "expected"), [
    ("train -solver s.prototxt -weights=a,b", "train --solver s.prototxt --weights=a,b"),
    ("train --solver=s -sigint_effect none --sighup_effect=stop",
     "train --solver=s --sigint-effect none --sighup-effect=stop"),
    ("--threads 2 test -model m -iterations 3", "--threads 2 test --model m --iterations 3"),
    ("device_query -gpu all", "device-query --gpu all"),
    ("segment test -o x", "segment test -o x"), ("time -h", "time -h"), ("", ""),
    ("classify a.png --model_def m --images_dim 2,3", "classify a.png --model-def m --images-dim 2,3")])
def test_spellings(given, expected):
    assert respell(given.split()) == expected.split()


def parse(text):
    """Read a log as Caffe's parse_log.py does: iteration → rate, loss, outputs; lines need a date."""
    iteration, train, test, began = -1, {}, {}, None
    for line in text.splitlines():
        match = PREFIX.match(line)
        if not match:
            continue
        month, day, hour, minute, second, micro = map(int, match.groups())
        when = datetime.datetime(2020, month, day, hour, minute, second, micro)
        if "Solving" in line:
            began = when
        found = re.search(r"Iteration (\d+)", line)
        if found:
            iteration = int(found[1])
        if iteration < 0:
            continue
        assert began is not None and when >= began
        found = re.search(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", line)
        if found:
            train[iteration]["lr"] = float(found[1])
        for kind, rows in (("Train", train), ("Test", test)):
            found = re.search(rf"{kind} net output #(\d+): (\S+) = ([\.\deE+-]+)", line)
            if found:
                rows.setdefault(iteration, {})[found[2]] = float(found[3])
    return train, test


def test_train_logs_what_parsers_read(folder, capsys):
    assert run("train -solver solver.prototxt -level 0") == 0
    train, test = parse(capsys.readouterr().err)
    assert list(train) == [0, 2, 4] and [row["lr"] for row in train.values()] == [0.1, 0.1, 0.05]
    assert list(test) == [0, 3, 6] and all(set(row) == {"loss", "right"} for row in test.values())
    assert 0 < train[4]["loss"] < train[0]["loss"] and test[6]["right"] == 1
    assert (folder / "model_iter_6.caffemodel").is_file()
    assert run("train --solver=solver.prototxt -snapshot model_iter_6.solverstate") == 0
    assert run("train -solver solver.prototxt -weights model_iter_6.caffemodel -stage more") == 2
    assert "it is the input model_iter_6.caffemodel" in capsys.readouterr().err  # said before the first iteration
    (folder / "model_iter_6.caffemodel").rename(folder / "start.caffemodel")
    assert run("train -solver solver.prototxt -weights start.caffemodel -stage more") == 0


def test_effects_of_signals_are_chosen(folder, monkeypatch):
    import signal

    from atrouscaffe.solver.solver import Solver

    plain = Solver._run_iteration
    seen = []

    def run_then_signal(self):
        plain(self)
        seen.append(self.iter)
        if self.iter == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Solver, "_run_iteration", run_then_signal)
    assert run("train -solver solver.prototxt -sigint_effect none") == 0
    assert seen == [1, 2, 3, 4, 5, 6] and not (folder / "model_iter_2.caffemodel").exists()
    seen.clear()
    assert run("train -solver solver.prototxt -sigint_effect snapshot") == 0
    assert seen == [1, 2, 3, 4, 5, 6]
    assert (folder / "model_iter_2.caffemodel").exists() or (folder / "model_iter_3.caffemodel").exists()
    seen.clear()
    assert run("train -solver solver.prototxt") == 130
    assert seen == [1, 2]


@pytest.fixture
def weights(folder):
    caffe.Net("net.prototxt", caffe.TEST, seed=1).save("w.caffemodel")
    return "w.caffemodel"


def test_test_writes_batches_and_means(folder, weights, capsys):
    assert run("test -model net.prototxt -weights w.caffemodel -iterations 3 -level 2 -stage more") == 0
    text = capsys.readouterr().err
    right = [float(x) for x in re.findall(r"Batch \d+, right = (\S+)", text)]
    assert len(right) == 3
    assert float(re.search(r"\] right = (\S+)", text)[1]) == pytest.approx(np.mean(right), rel=1e-4)
    loss = re.search(r"\] loss = (\S+) \(\* 1 = (\S+) loss\)", text)
    assert loss[1] == loss[2] == re.search(r"\] Loss: (\S+)", text)[1]
    assert "extra" in text
    assert run("test -model net.prototxt") == 2
    assert run("test -model net.prototxt -weights w.caffemodel -iterations 0") == 2


def test_time_gives_forward_and_backward_by_layer(folder, capsys):
    assert run("time -model net.prototxt -iterations 2") == 0
    text = capsys.readouterr().err
    found = dict(re.findall(r"(\S+)\tforward: (\S+) ms\.", text))
    back = dict(re.findall(r"(\S+)\tbackward: (\S+) ms\.", text))
    assert list(found) == list(back) == ["x", "ip", "loss"] and all(float(ms) > 0 for ms in found.values())
    whole = float(re.search(r"Average Forward pass: (\S+) ms\.", text)[1])
    assert sum(map(float, found.values())) <= whole * 1.01
    assert len(re.findall(r"Iteration: \d forward-backward time: \S+ ms\.", text)) == 2
    assert "*** Benchmark begins ***" in text and "*** Benchmark ends ***" in text
    assert run("time -model net.prototxt -phase TEST -iterations 1") == 0
    assert "right" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["device_query -gpu 0", "device-query --gpu all",
                                     "train -solver solver.prototxt -gpu 0",
                                     "train -solver solver.prototxt -gpu all", "time -model net.prototxt -gpu 0,1",
                                     "test -model net.prototxt -weights w -gpu 0"])
def test_gpus_are_asked_for_in_vain(folder, command, capsys, monkeypatch):
    monkeypatch.setattr(cuda, "probe", lambda: cuda.Probe("no device", "device 'cuda': no CUDA device was found"))
    assert run(command) == 2
    error = capsys.readouterr().err
    assert "CUDA" in error or "several GPUs" in error


def test_device_query_tells_of_the_processor_and_of_what_cuda_lacks(capsys, monkeypatch):
    monkeypatch.setattr(cuda, "probe", lambda: cuda.Probe("no driver", "device 'cuda': no NVIDIA driver was found"))
    assert run("device_query") == 0
    text = capsys.readouterr().err
    assert " thread" in text and "no NVIDIA driver was found" in text


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_device_query_names_the_gpus(device, capsys):
    assert run("device_query -gpu all") == 0
    text = capsys.readouterr().err
    assert "cuda:0: ready" in text and "compute capability" in text and "driver " in text
    assert run("device_query -gpu 0,99") == 2
    assert "cuda:99" in capsys.readouterr().err
    assert run("device_query -gpu first") == 2
    assert "--gpu: expected numbers" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
@pytest.mark.parametrize("how", ["-gpu 0", "--device cuda", "--device cuda:0 --precision tf32"])
def test_time_and_train_run_on_the_device(device, folder, how, capsys):
    assert run(f"time -model net.prototxt -iterations 1 {how}") == 0
    assert run(f"train -solver solver.prototxt {how}") == 0
    assert "Optimization Done" in capsys.readouterr().err


def test_precisions_that_cannot_be_had_are_refused(folder, capsys):
    for command in ("time -model net.prototxt", "train -solver solver.prototxt"):
        assert run(f"{command} --precision fp16") == 2
        assert "precision: expected 'fp32'" in capsys.readouterr().err


def test_python_layers_are_refused_unless_allowed(folder, capsys):
    (folder / "python.prototxt").write_text(
        'layer { name: "p" type: "Python" top: "p" python_param { module: "tests.pycaffe.test_python_layer" '
        'layer: "Counter" } }')
    assert run("time -model python.prototxt -iterations 1") == 2
    assert "allow_python_layers" in capsys.readouterr().err
    assert run("time -model python.prototxt -iterations 1 --allow-python-layers") == 0


def test_draw_writes_a_picture(folder, capsys):
    assert run("draw net.prototxt --out net.svg --rankdir TB --phase TRAIN --display-lrm") == 0
    text = (folder / "net.svg").read_text()
    assert "InnerProduct" in text and "lr mult" in text and "Accuracy" not in text
    assert run("draw net.prototxt --out net.dot") == 0
    assert (folder / "net.dot").read_text().startswith("digraph small")
    old = 'layers { name: "c" type: CONVOLUTION bottom: "d" top: "c" convolution_param { num_output: 2 hole: 3 } }'
    (folder / "old.prototxt").write_text(old)
    assert run("draw old.prototxt --out old.dot") == 0
    assert run("draw missing.prototxt --out net.svg") == 2


def test_upgrades(folder, capsys):
    (folder / "old.txt").write_text('name: "o" input: "d" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 '
                                    'layers { name: "ip" type: INNER_PRODUCT bottom: "d" top: "ip" blobs_lr: 2 '
                                    'inner_product_param { num_output: 3 } }')
    assert run("upgrade_net_proto_text old.txt new.txt") == 0
    text = (folder / "new.txt").read_text()
    assert 'type: "InnerProduct"' in text and "lr_mult: 2" in text and "layers" not in text
    caffe.Net("new.txt", caffe.TEST, seed=1).save("a.bin")
    assert run("upgrade_net_proto_binary a.bin b.bin") == 0
    one, two = caffe.Net("new.txt", "a.bin", caffe.TEST), caffe.Net("new.txt", "b.bin", caffe.TEST)
    np.testing.assert_array_equal(one.params["ip"][0].data, two.params["ip"][0].data)
    (folder / "s.txt").write_text("solver_type: ADAM base_lr: 0.5")
    assert run("upgrade_solver_proto_text s.txt t.txt") == 0
    assert 'type: "Adam"' in (folder / "t.txt").read_text()


def test_classify_prints_the_best_and_writes_all(folder, rng, capsys, monkeypatch):
    from PIL import Image

    (folder / "deploy.prototxt").write_text("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
                inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.01 } } }
        layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }""")
    caffe.Net("deploy.prototxt", caffe.TEST, seed=2).save("c.caffemodel")
    (folder / "pictures").mkdir()
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)).save(folder / "pictures" / f"{name}.png")
    (folder / "names.txt").write_text("cat\ndog\ncow\n")
    command = ("classify pictures --ext png --model_def deploy.prototxt --pretrained_model c.caffemodel "
               "--center_only --mean 104,117,123 --labels names.txt --top 2 --out scores.npy")
    assert run(command) == 0
    scores, lines = np.load(folder / "scores.npy"), capsys.readouterr().out.splitlines()
    net = caffe.Classifier("deploy.prototxt", "c.caffemodel", mean=np.array([104.0, 117, 123]), raw_scale=255,
                           channel_swap=(2, 1, 0))
    pictures = [caffe.io.load_image(str(folder / "pictures" / f"{name}.png")) for name in "ab"]
    np.testing.assert_allclose(scores, net.predict(pictures, False), rtol=1e-6)
    assert lines[0] == "pictures/a.png" and lines[3] == "pictures/b.png" and len(lines) == 6
    assert lines[1].split() == [f"{scores[0].max():.4f}", ["cat", "dog", "cow"][scores[0].argmax()]]
    monkeypatch.setattr(cuda, "probe", lambda: cuda.Probe("no device", "device 'cuda': no CUDA device was found"))
    assert run(f"{command} --gpu") == run(f"{command} --device cuda") == 2
    capsys.readouterr()
    (folder / "words.npy").write_text("words")
    (folder / "words.png").write_text("words")
    np.savez(folder / "rows.npy", a=np.zeros(3))
    (folder / "rows.npy.npz").rename(folder / "rows.npy")
    for name, word in (("missing.png", "no such file"), ("missing.npy", "no such file"),
                       ("words.npy", "something else"), ("words.png", "no format that Pillow knows"),
                       ("rows.npy", "archive")):
        assert run(command.replace("pictures --ext png", name)) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"atrouscaffe: {name}: ") and word in said and said.count("\n") == 1, said
    (folder / "names.txt").write_text("cat\n")
    assert run(command) == 2
