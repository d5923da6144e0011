"""Weak-EM-Adapt: its training net has LargeFOV's parameters, runs from its solver, and its loss falls."""

from __future__ import annotations

import re

import numpy as np
import pytest

from atrouscaffe import get_solver
from atrouscaffe.formats.prototxt import read_net, read_solver
from atrouscaffe.graph.graph import Graph
from atrouscaffe.resources import resource
from atrouscaffe.spec import TRAIN

VARIABLES = {"DATA_ROOT": "data", "EXP": "voc12", "TRAIN_SET_WEAK": "weak", "NET_ID": "weak-em-adapt",
             "NUM_LABELS": "21"}
SIDE = 65


def text(name: str) -> str:
    return resource("prototxt", f"weak-em-adapt/{name}.prototxt").read_text()


def write_photographs(folder) -> None:
    """Four pictures of one or two coloured squares on grey, with their label maps."""
    import cv2

    rng = np.random.default_rng(2)
    colours = {3: (200, 30, 40), 8: (30, 180, 60), 15: (40, 60, 220)}
    (folder / "voc12/list").mkdir(parents=True)
    lines = []
    for i, classes in enumerate([(3,), (8,), (15,), (3, 15)]):
        image = rng.integers(90, 140, (70, 80, 3)).astype(np.uint8)
        label = np.zeros((70, 80), np.uint8)
        for j, kind in enumerate(classes):
            part = (slice(10 + 5 * j, 50), slice(8 + 34 * j, 36 + 34 * j))
            image[part], label[part] = colours[kind], kind
        cv2.imwrite(str(folder / f"{i}.png"), image)
        cv2.imwrite(str(folder / f"{i}_label.png"), label)
        lines.append(f"/{i}.png /{i}_label.png")
    (folder / "voc12/list/weak.txt").write_text("\n".join(lines) + "\n")


def test_parameters_are_largefovs():
    weak = Graph(read_net(resource("prototxt", "weak-em-adapt/train.prototxt"), variables=VARIABLES), TRAIN)
    assert weak.parameter_count() == 20_505_429
    assert weak.shape("data") == (20, 3, 321, 321) and weak.shape("label_weak") == (20, 10, 1, 1)
    assert weak.shape("label_estep") == (20, 1, 41, 41)
    labels = next(node for node in weak.nodes if node.spec.name == "loss").propagate
    assert labels == (True, False)


def test_solver_is_the_released_one():
    solver = read_solver(resource("prototxt", "weak-em-adapt/solver.prototxt"), variables=VARIABLES)
    assert (solver.stepsize, solver.max_iter, solver.momentum) == (2000, 6000, pytest.approx(0.9))
    assert solver.base_lr == pytest.approx(0.001) and solver.weight_decay == pytest.approx(0.0005)


def test_loss_falls_and_absent_classes_vanish(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path)
    net = re.sub(r"num_output: (\d+)", lambda match: f"num_output: {max(8, int(match[1]) // 32)}", text("train"))
    bare = r"(convolution_param \{ num_output: \d+ kernel_size: \d[^{}]*) \}"
    net = re.sub(bare, r'\1 weight_filler { type: "msra" } }', net)
    net = net.replace("batch_size: 20", "batch_size: 4").replace("crop_size: 321", f"crop_size: {SIDE} scale: 0.02")
    (tmp_path / "train.prototxt").write_text(net)
    solver = text("solver").replace("base_lr: 0.001", "base_lr: 0.002 random_seed: 3").replace("display: 10", "")
    (tmp_path / "solver.prototxt").write_text(solver)
    run = get_solver("solver.prototxt", variables={**VARIABLES, "DATA_ROOT": str(tmp_path)}, log=lambda line: None)
    losses = []
    run.listeners.append(lambda event: losses.append(event.loss))
    run.step(40)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    chosen = set(np.unique(run.net.blobs["label_estep"].data))
    assert chosen <= {0, 3, 8, 15} and 0 in chosen
