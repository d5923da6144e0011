"""All tables and figures from a folder laid out like VOC, with stand-in weights and with none."""

import json
import shutil

import numpy as np
import pytest

from atrouscaffe.cli.main import main
from atrouscaffe.data.palette import color_map, encode_labels, read_labels
from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.pipeline.bench import Bench
from atrouscaffe.pipeline.paper import METHODS, TABLE2, method_name, paper_numbers, seen_in_training
from atrouscaffe.pipeline.registry import find_prototxt
from atrouscaffe.pipeline.reproduce import TARGETS, reproduce
from atrouscaffe.pipeline.speed import fit_side, geometry, sized_net, training_seconds

from ..conftest import shared_folder
from . import voc

SIDE = 65
COMMON = ["--list", "val", "--limit", "1", "--input-size", str(SIDE)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One image of 57x63 pixels: cut from a photograph where the photographs are there."""
    folder = shared_folder()
    return voc.folder(tmp_path_factory.mktemp("voc"), count=1, size=(57, 63), classes=21,
                      shared=folder / "data" if folder else None)


@pytest.fixture(scope="module")
def produced(data, tmp_path_factory):
    """Every target but the training speeds, with stand-in weights for all six models."""
    out = tmp_path_factory.mktemp("out")
    theirs = out / "fcn"
    theirs.mkdir()
    for label in (data / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        labels = read_labels(label)
        (theirs / label.name).write_bytes(encode_labels(np.where(labels == 255, 0, labels)))
    status = main(["reproduce", "all", "--voc", str(data), *COMMON, "--stand-in", "--no-train-speed", "--predictions",
                   f"FCN-8s={theirs}", "--out", str(out)])
    return out, status


def table(out, target, index=0):
    return json.loads((out / f"{target}.json").read_text())["tables"][index]


def test_every_table_and_figure_is_produced(produced):
    import cv2

    out, status = produced
    assert status == 0
    for target in TARGETS:
        assert json.loads((out / f"{target}.json").read_text())["tables"], target
    for name, rows in (("fig2", 2), ("fig4", 4), ("fig6", 4), ("fig7", 4)):
        picture = cv2.imread(str(out / f"{name}.png"))
        assert picture.shape[0] == rows * 184 + 6 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert (out / "fig5.svg").read_text().startswith("<svg")


def test_table1_has_the_papers_figures_and_ours(produced):
    numbers = paper_numbers()
    rows = {row[0]: row[1:] for row in table(produced[0], "table1")["rows"]}
    for name, value in numbers["table1a_val_mean_iou"].items():
        paper, ours, less = rows[name]
        assert paper == value and 0 <= ours <= 100 and less == pytest.approx(ours - value, abs=2e-3)
    assert rows["DeepLab-CRF-4x4 (Table 2)"][0] == 67.14
    second = {row[0]: row[1] for row in table(produced[0], "table1", 1)["rows"]}
    assert second["TTI-Zoomout-16 (published)"] == 64.4 and len(second) == 8


def test_table1_figures_are_those_of_the_label_maps(produced, data):
    from sklearn.metrics import jaccard_score

    out, _ = produced
    rows = {row[0]: row[2] for row in table(out, "table1")["rows"]}
    truth_path = next((data / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))
    truth = read_labels(truth_path)
    kept = truth != 255
    for model in ("deeplab-7x7", "deeplab-msc-largefov"):
        for kind in ("plain", "crf"):
            labels = read_labels(out / model / kind / truth_path.name)
            expected = jaccard_score(truth[kept], labels[kept], labels=range(21), average="macro", zero_division=0)
            assert rows[method_name(model, kind)] == pytest.approx(100 * expected, abs=2e-3)


def test_table2_geometry_is_computed_from_the_nets(produced):
    for entry, row in zip(paper_numbers()["table2"], table(produced[0], "table2")["rows"]):
        assert row[0] == entry["method"] and row[1] == f"{entry['kernel_size']}x{entry['kernel_size']}"
        assert row[2] == entry["input_stride"] and row[3] == row[4] == entry["receptive_field_px"]
        assert row[5] == row[6] == entry["parameters_millions"]
        assert geometry(TABLE2[entry["method"]]).parameters == entry["parameters_computed"]


def test_table3_and_fig5_stand_beside_the_published(produced):
    head, rows = (table(produced[0], "table3")[key] for key in ("head", "rows"))
    assert head[1] == "MSRA-CFM (published, test)" and head[-1] == "DeepLab-MSc-CRF-LargeFOV (ours, val)"
    assert len(rows) == 22 and rows[-1][head.index("FCN-8s (published, test)")] == 62.2
    first = table(produced[0], "fig5")["rows"][0]
    assert first[:3] == ["DeepLab", 1, 39.14] and first[3] is not None
    lines = (produced[0] / "fig5.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 4 * 40 and lines[1].startswith("DeepLab,mean_iou,1,39.14,")


def test_fig6_shows_the_other_methods_predictions(produced):
    import cv2

    picture = cv2.imread(str(produced[0] / "fig6.png"))
    notes = table(produced[0], "fig6")["notes"]
    assert any("TTI-Zoomout-16" in note for note in notes) and not any("FCN-8s" in note for note in notes)
    colours = {tuple(color) for color in color_map(21)[1:, ::-1].tolist()}
    theirs = {tuple(pixel) for pixel in picture[2 * 184 + 24:3 * 184].reshape(-1, 3).tolist()}
    assert colours & theirs


def test_second_time_nothing_runs_again(produced, data, capsys):
    out, _ = produced
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/crf/*.png")}
    assert len(before) == 6
    assert main(["reproduce", "fig4", "--voc", str(data), *COMMON, "--stand-in", "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "stand-in weights" in capsys.readouterr().out


def test_missing_weights_are_named_and_the_rest_is_done(data, tmp_path, capsys):
    status = main(["reproduce", "table1", "table3", "fig2", "fig4", "fig5", "fig6", "fig7", "--voc", str(data), *COMMON,
                   "--weights-dir", str(tmp_path / "weights"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert status == 1
    assert "train2_iter_8000.caffemodel" in told and "ccvl/DeepLab-LargeFOV/" in told
    assert str(tmp_path / "weights" / "deeplab-largefov" / "train2_iter_8000.caffemodel") in told
    assert "never released weights" in told
    assert "atrouscaffe train --solver prototxt/deeplab-7x7/solver.prototxt" in told
    rows = {row[0]: row[1:] for row in table(tmp_path / "out", "table1")["rows"]}
    assert rows["DeepLab"] == [59.8, None, None]
    assert "is left grey" in told and all((tmp_path / "out" / name).is_file() for name in ("fig4.png", "fig5.svg"))


def test_missing_images_are_named_and_the_rest_is_done(tmp_path, capsys):
    assert main(["reproduce", "table1", "table2", "--no-train-speed", "--stand-in", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "VOCtrainval_11-May-2012.tar" in told and "--voc" in told
    assert table(tmp_path, "table2")["rows"][3][6] == 20.5


def test_weights_are_found_by_folder_and_by_name(tmp_path):
    folder = tmp_path / "w" / "vgg128_noup_pool3_20M_largewin3"
    folder.mkdir(parents=True)
    for name in ("train2_iter_8000.caffemodel", "train_iter_2000.caffemodel", "train_iter_6000.caffemodel", "x.txt"):
        (folder / name).write_bytes(b"")
    bench = Bench(tmp_path, weights_folder=tmp_path / "w")
    assert bench.weights_of("deeplab-largefov") == folder / "train_iter_6000.caffemodel"
    for name in ("train_iter_2000.caffemodel", "train_iter_6000.caffemodel"):
        (folder / name).unlink()
    assert bench.weights_of("deeplab-largefov") == folder / "train2_iter_8000.caffemodel"
    assert bench.weights_of("deeplab-msc") is None and bench.incomplete
    given = Bench(tmp_path, weights={"deeplab": tmp_path / "none"})
    assert given.weights_of("deeplab") is None and "there is no file" in given.notes[0]
    with pytest.raises(ValueError, match="expected one of the models"):
        Bench(tmp_path, weights={"vgg": tmp_path})


def test_real_weights_are_read_and_train2_is_warned_about(data, tmp_path):
    net = Bench(tmp_path, stand_in=True, input_size=SIDE).segmenter("deeplab-largefov").net
    path = tmp_path / "weights" / "deeplab-largefov" / "train2_iter_8000.caffemodel"
    path.parent.mkdir(parents=True)
    net.save(path)
    bench = Bench(tmp_path / "out", data, "val", 1, weights_folder=tmp_path / "weights", input_size=SIDE)
    stood_in = Bench(tmp_path / "other", data, "val", 1, stand_in=True, input_size=SIDE)
    assert bench.figures("deeplab-largefov")["crf"] == stood_in.figures("deeplab-largefov")["crf"]
    assert any("trained on trainval_aug" in note for note in bench.notes)
    shutil.rmtree(tmp_path / "weights")


@pytest.mark.parametrize(("weights", "name", "warned"), [
    ("w/train2_iter_8000.caffemodel", "val", True), ("train2_iter_8000.caffemodel", "lists/val_id.txt", True),
    ("train_iter_6000.caffemodel", "val", False), ("train2_iter_8000.caffemodel", "test", False), (None, "val", False)])
def test_scoring_the_training_images_is_warned_about(weights, name, warned):
    assert bool(seen_in_training(weights, name)) == warned


def test_names_are_those_of_the_paper():
    published = paper_numbers()["table1a_val_mean_iou"]
    ours = {method_name(model, kind) for model in METHODS for kind in ("plain", "crf")}
    assert set(published) <= ours
    assert {row["method"] for row in paper_numbers()["table2"]} <= ours


def test_nets_are_fitted_to_their_grid():
    for model, side in (("deeplab", 66), ("deeplab-msc", 65)):
        spec = sized_net(read_net(find_prototxt(model)), 64)
        assert spec.layers[0].fields.input_param.shape[0].dim == (1, 3, side, side)
    assert fit_side(306, 514) == 306
    with pytest.raises(ValueError, match="at least 33"):
        fit_side(8, 513)


def test_training_speed_is_measured_with_the_real_train_net(data, tmp_path):
    seconds, crop = training_seconds("deeplab-largefov", side=41)
    assert crop == 41 and 0 < seconds < 60


def test_training_speeds_stand_in_table2(tmp_path, monkeypatch):
    """Four real trainings take minutes on a small machine: here the measured times are given."""
    times = {"deeplab-7x7": 0.5, "deeplab": 0.25, "deeplab-4x4": 0.25, "deeplab-largefov": 0.125}
    monkeypatch.setattr("atrouscaffe.pipeline.reproduce.training_seconds",
                        lambda model, *_, precision: (times[model], 321))
    found = reproduce("table2", Bench(tmp_path), train_batch=2)[0]
    assert [row[-1] for row in found.rows] == [2, 4, 4, 8]
    assert [row[-2] for row in found.rows] == [1.44, 2.9, 2.9, 4.84]
    assert any("4.00 times as fast as 7x7; in the paper 3.36" in note for note in found.notes)
