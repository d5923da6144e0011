"""``atrouscaffe inspect``: each kind of file, its JSON, and files that do not load."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from atrouscaffe.cli.main import main
from atrouscaffe.formats.caffemodel import write_caffemodel
from atrouscaffe.formats.encode import tag, varint
from atrouscaffe.formats.mean import write_mean
from atrouscaffe.formats.prototxt import parse_net
from tests.conftest import ORACLE, ROOT

V1, V2 = ORACLE / "nets/v1_deeplab_largefov", ORACLE / "nets/v2_deeplab_largefov"
LARGEFOV = ROOT / "prototxt/deeplab-largefov"
NET = """name: "small"
input: "data" input_shape { dim: 1 dim: 2 dim: 5 dim: 7 }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 kernel_size: 1 } }
"""


def inspect(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["inspect", *(str(word) for word in words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    status, out, err = inspect(capsys, *words, "--json")
    assert status == 0, err
    return json.loads(out)


def documented(kind: str) -> set[str]:
    """Keys that docs/inspect.md lists for a kind."""
    section = (ROOT / "docs/inspect.md").read_text().split(f"## kind: {kind}\n")[1].split("\n## ")[0]
    return {key for row in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}


def test_net_as_text_shows_shapes_and_both_receptive_fields(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = inspect(capsys, LARGEFOV / "deploy.prototxt")
    assert status == 0
    assert re.search(r"fc6 +Convolution +fc6 1x1024x65x65 +4,719,616", out)
    assert "20,505,429" in out and "435 pixels at fc8_voc12" in out and "224 padded, 404 convolutional" in out


def test_net_as_json_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, LARGEFOV / "deploy.prototxt")
    assert set(report) == documented("net") | {"kind", "path"}
    assert report["parameters"] == 20_505_429 and report["dialect"] == "v1" and report["phase"] == "TEST"
    assert set(report["layers"][0]) == {"name", "type", "bottoms", "tops", "shapes", "params", "param_shapes", "macs",
                                        "stride", "receptive_field"}


def test_net_when_given_another_input_shape(capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, LARGEFOV / "deploy.prototxt", "--input-shape", "2,3,306,306")
    assert report["outputs"] == {"fc8_interp": [2, 21, 313, 313]}
    named = as_json(capsys, LARGEFOV / "deploy.prototxt", "--input-shape", "data=1x3x321x321")
    assert named["outputs"] == {"fc8_interp": [1, 21, 321, 321]}


def test_net_with_inputs_in_train_only_is_shown_in_train(capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--set={name}={value}" for name, value in (("DATA_ROOT", "VOC"), ("EXP", "voc12"), ("NET_ID", "n"),
                                                         ("TRAIN_SET", "train"), ("NUM_LABELS", "21"))]
    report = as_json(capsys, LARGEFOV / "train.prototxt", *words)
    assert report["phase"] == "TRAIN" and report["layers"][0]["shapes"][0] == [30, 3, 321, 321]
    status, _, err = inspect(capsys, LARGEFOV / "train.prototxt", *words, "--phase", "test")
    assert status == 2 and "'data'" in err
    status, _, err = inspect(capsys, LARGEFOV / "train.prototxt", *words[:-1])
    assert status == 2 and "NUM_LABELS" in err


@pytest.mark.parametrize(("folder", "dialect"), [(V1, "v1"), (V2, "v2")])
def test_weights_written_by_the_originals(capsys: pytest.CaptureFixture[str], folder: Path, dialect: str) -> None:
    report = as_json(capsys, folder / "weights.caffemodel")
    assert set(report) == documented("weights") | {"kind", "path"}
    assert report["dialect"] == dialect and report["evidence"]
    layers = {layer["name"]: layer for layer in report["layers"] if layer["blobs"]}
    assert layers["fc6"]["type"] == "Convolution"
    assert layers["fc6"]["blobs"][0]["shape"][2:] == [3, 3] and report["nonfinite"] == 0
    status, out, _ = inspect(capsys, folder / "weights.caffemodel")
    assert status == 0 and f"dialect {dialect}" in out


def test_weights_with_values_that_are_not_finite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weights = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1)
    weights[1] = [[[np.nan]], [[np.inf]]]
    path = tmp_path / "bad.caffemodel"
    write_caffemodel(path, parse_net(NET), {"c": [weights, np.full(3, np.nan, np.float32)]})
    report = as_json(capsys, path)
    first, second = report["layers"][-1]["blobs"]
    assert (first["nonfinite"], first["min"], first["max"], first["mean"]) == (2, 0.0, 5.0, 2.5)
    assert (second["nonfinite"], second["min"], second["mean"]) == (3, None, None)
    assert report["nonfinite"] == 5 and report["parameters"] == 9
    _, out, _ = inspect(capsys, path)
    assert "2 of 6 NaN or infinite" in out and "5 values" in out


def test_known_models_are_named(capsys: pytest.CaptureFixture[str], shared_data: Path) -> None:
    report = as_json(capsys, LARGEFOV / "deploy.prototxt")
    assert (report["known"], report["known_by"]) == (["deeplab-largefov"], "name")
    _, out, _ = inspect(capsys, LARGEFOV / "deploy.prototxt")
    assert "train2_iter_8000.caffemodel, about 82 MB" in out
    weights = shared_data / "models/deeplabv3_mnv2/deeplabv3_mnv2_dm05_voc.caffemodel"
    report = as_json(capsys, weights)
    assert (report["known"], report["known_by"]) == (["deeplabv3_mnv2_dm05_voc"], "sha256")
    report = as_json(capsys, V1 / "weights.caffemodel")
    assert (report["known"], report["known_by"]) == ([], None)


def test_weights_of_a_published_size_are_said_to_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.caffemodel"
    write_caffemodel(path, parse_net(NET), {"c": [np.zeros((688_357 - 3,), np.float32), np.zeros(3, np.float32)]})
    report = as_json(capsys, path)
    assert (report["known"], report["known_by"]) == (["deeplabv3_mnv2_dm05_voc"], "parameters")
    _, out, _ = inspect(capsys, path)
    assert "as many parameters" in out


def test_mean_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mean = np.stack([np.full((2, 5), value, np.float32) for value in (104, 117, 123)])
    for name in ("mean.binaryproto", "mean.npy"):
        write_mean(tmp_path / name, mean)
        report = as_json(capsys, tmp_path / name)
        assert set(report) == documented("mean") | {"kind", "path"}
        assert (report["shape"], report["channel_means"]) == ([3, 2, 5], [104.0, 117.0, 123.0])


def test_solver_and_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, LARGEFOV / "solver.prototxt", "--set", "EXP=voc12", "--set", "NET_ID=net")
    assert set(report) == documented("solver") | {"kind", "path"}
    assert report["options"]["base_lr"] == 0.001 and report["options"]["snapshot_prefix"] == "voc12/model/net/train"
    state = next((ORACLE / "solver").rglob("*.solverstate"))
    report = as_json(capsys, state)
    assert set(report) == documented("state") | {"kind", "path"}
    assert report["iteration"] == 4 and report["history"]


BAD = {
    "empty.caffemodel": (b"", "empty"),
    "page.caffemodel": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "HTML"),
    "pointer.caffemodel": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git-LFS"),
    "net.caffemodel": (NET.encode(), "text"),
    "weights.prototxt": ((V1 / "weights.caffemodel").read_bytes(), "expected a text net"),
    "cut.caffemodel": ((V1 / "weights.caffemodel").read_bytes()[:-3], ""),
    "unknown.prototxt": (b'layer { name: "x" tipe: "ReLU" }', "tipe"),
    "mean.npy": (b"\x93NUMPY", "npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_file_that_does_not_load_says_why(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, word = BAD[name]
    (tmp_path / name).write_bytes(content)
    status, out, err = inspect(capsys, tmp_path / name, "--json")
    assert status == 2 and err.startswith("atrouscaffe: ") and err.count("\n") == 1 and word in err
    assert json.loads(out)["problem"] in err


@pytest.mark.parametrize(("words", "problem"), [
    (["missing.caffemodel"], "no such file"), (["deploy.prototxt", "--input-shape", "0,3"], "at least 1"),
    (["deploy.prototxt", "--input-shape", "label=1,3,5,5"], "no input 'label'"),
    (["deploy.prototxt", "--set", "EXP"], "NAME=VALUE"), (["deploy.txt"], "--as|suffix"),
    (["solver.prototxt", "--phase", "test"], "--phase is for nets"),
    (["solver.prototxt", "--dialect", "v1"], "--dialect is for nets"), (["deploy.prototxt", "--dialect", "v9"], "v9")])
def test_wrong_options_are_one_paragraph(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = inspect(capsys, LARGEFOV / words[0], *words[1:])
    assert status == 2 and re.search(problem, err) and err.count("\n") == 1


def test_as_overrides_the_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.txt").write_text(NET)
    assert as_json(capsys, tmp_path / "model.txt", "--as", "net")["name"] == "small"


def test_a_label_map_and_a_solver_with_unknown_fields_are_shown(capsys: pytest.CaptureFixture[str],
                                                                tmp_path: Path) -> None:
    labels = tmp_path / "labelmap.prototxt"
    labels.write_text('item { name: "cat" label: 8 display_name: "a cat" }')
    report = as_json(capsys, labels)
    assert set(report) == documented("labels") | {"kind", "path"}
    assert report["labels"] == [{"label": 8, "name": "cat", "display_name": "a cat"}]
    assert re.search("detector's 1 classes.*8 +cat +a cat", inspect(capsys, labels)[1], re.DOTALL)
    solver = tmp_path / "solver.prototxt"
    solver.write_text('net: "n"\nstepearly: 3')
    report = as_json(capsys, solver)
    assert set(report) == documented("solver") | {"kind", "path"} and "stepearly" in report["unknown_fields"][0]
    assert "training refuses it" in inspect(capsys, solver)[1]


@pytest.mark.parametrize(("layers", "fork", "evidence"), [
    ([("BN", 152), ("Interp", 143)], "PSPNet's and ICNet's Caffe", "field 152 on a layer of type BN"),
    ([("Interp", 143)], "DeepLab's second fork", "field 143 on a layer of type Interp"),
    ([("BN", 45), ("Upsample", 137)], "SegNet's Caffe", "field 137 on a layer of type Upsample"),
    ([("BN", 45), ("Upsample", 147)], "ENet's Caffe", "field 147 on a layer of type Upsample"),
    ([("MultiStageMeanfield", 146)], "CRF-as-RNN's or HED's Caffe", "field 146 on a layer of type MultiStageMeanfield"),
    ([("MultiStageMeanfield", 1000)], "BVLC's Caffe", "field 1000 on a layer of type MultiStageMeanfield"),
    ([("PriorBox", 203), ("Input", 143)], "SSD's Caffe", "a layer of type PriorBox"),
    ([("Crop", 144)], "BVLC's Caffe", "field 144 on a layer of type Crop"),
    ([("ReLU", 123)], "BVLC's Caffe", "number alike"),
])
def test_the_fork_that_wrote_weights_is_told_with_the_evidence(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                                               layers: list, fork: str, evidence: str) -> None:
    def field(number: int, body: bytes) -> bytes:
        return tag(number, 2) + varint(len(body)) + body

    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"".join(field(100, field(1, b"n") + field(2, kind.encode()) + field(number, b""))
                              for kind, number in layers))
    report = as_json(capsys, path)
    assert report["fork"] == fork and evidence in report["evidence"]
    assert f"written by  {fork}" in inspect(capsys, path)[1]


def test_layer_types_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, "--layers")
    assert set(report) == {"kind", "layers"}
    section = (ROOT / "docs/inspect.md").read_text().split("## kind: layers (`inspect --layers`)\n")[1]
    assert {*report["layers"][0], "layers"} <= set(re.findall(r"`(\w+)`", section))
    assert re.search(r"^Concat +1\+ → 1 +concat_param +Join bottoms along `axis`", inspect(capsys, "--layers")[1], re.M)
    for words in ([], ["--layers", "net.prototxt"]):
        status, _, err = inspect(capsys, *words)
        assert status == 2 and "either a file or --layers" in err
