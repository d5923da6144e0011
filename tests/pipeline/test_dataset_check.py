"""dataset-check on folders with one fault each."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from atrouscaffe.cli.main import main
from atrouscaffe.data.palette import color_map, encode_labels
from atrouscaffe.errors import ArgumentError, FileMissingError
from atrouscaffe.pipeline.dataset_check import check_dataset


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three sound pictures of 30x20 with palette label maps, and their list."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    lines = []
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)).save(tmp_path / f"{i}.png")
        labels = np.zeros((20, 30), np.uint8)
        labels[5:10, 5:15] = i + 1
        labels[0] = 255
        (tmp_path / f"{i}_label.png").write_bytes(encode_labels(labels))
        lines.append(f"/{i}.png /{i}_label.png")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def findings(folder, **options):
    return {(f.kind, f.where, f.error) for f in check_dataset("list.txt", str(folder), **options).findings}


def save_label(folder, array, mode=None):
    Image.fromarray(array, mode).save(folder / "1_label.png") if mode else Image.fromarray(array).save(
        folder / "1_label.png")


def test_sound_list_has_no_findings_and_true_counts(folder):
    report = check_dataset("list.txt", str(folder), crop=17)
    assert not report.findings and report.images == 3 and report.modes == {"palette": 3}
    assert report.void_share == pytest.approx(30 / 600)
    assert report.pixels[1] == 50 and report.images_with[1] == 1 and report.images_with[0] == 3
    assert report.pixels.sum() == 3 * 600 and report.smaller == 0
    assert "classes that never occur" in report.text() and "0 errors, 0 notes" in report.text()


@pytest.mark.parametrize(("crop", "expected"), [(25, True), (24, False), (321, True), (306, False)])
def test_crop_must_fall_on_whole_pixels(folder, crop, expected):
    report = check_dataset("list.txt", str(folder), crop=crop)
    assert (report.errors == 0) is expected
    assert report.smaller == 3
    if not expected:
        assert f"use {(crop - 1) // 8 * 8 + 1} or" in report.text()


def fault(folder, name):
    if name == "missing image":
        (folder / "1.png").unlink()
    elif name == "missing label":
        (folder / "1_label.png").unlink()
    elif name == "no label":
        (folder / "list.txt").write_text("/0.png /0_label.png\n/1.png\n/2.png /2_label.png\n")
    elif name == "size":
        save_label(folder, np.zeros((20, 29), np.uint8))
    elif name == "truncated image":
        (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:-30])
    elif name == "damaged label":
        (folder / "1_label.png").write_bytes((folder / "1_label.png").read_bytes()[:60])
    elif name == "text as label":
        (folder / "1_label.png").write_text("no picture")
    elif name == "rgb":
        save_label(folder, color_map(21)[np.full((20, 30), 4)].astype(np.uint8))
    elif name == "value":
        save_label(folder, np.full((20, 30), 30, np.uint8))
    elif name == "luminance":
        save_label(folder, np.full((20, 30), 147, np.uint8))
    elif name == "void":
        save_label(folder, np.full((20, 30), 255, np.uint8))


@pytest.mark.parametrize(("name", "kind", "error", "word"), [
    ("missing image", "missing", True, "1.png"),
    ("missing label", "missing", True, "1_label.png"),
    ("no label", "no label", True, "no label map"),
    ("size", "size", True, "29x20 pixels, but its image has 30x20"),
    ("truncated image", "damaged", True, "truncated"),
    ("damaged label", "damaged", True, "1_label.png"),
    ("text as label", "damaged", True, "1_label.png"),
    ("rgb", "colours", True, "RGB"),
    ("value", "value", True, "label values 30"),
    ("luminance", "value", True, "is class 15"),
    ("void", "void", False, "nothing but void"),
])
def test_fault_is_named_with_its_line(folder, name, kind, error, word):
    fault(folder, name)
    report = check_dataset("list.txt", str(folder))
    found = [f for f in report.findings if f.where == "list.txt:2"]
    assert [(f.kind, f.error) for f in found] == [(kind, error)]
    assert word in found[0].text and word in report.text()
    assert all(f.where in ("list.txt", "list.txt:2") for f in report.findings)


def test_mixed_palette_and_grey_is_a_note(folder):
    save_label(folder, np.zeros((20, 30), np.uint8))
    assert findings(folder) == {("colours", "list.txt", False)}


def test_duplicates_are_found_by_name_and_by_content(folder):
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    with open("list.txt", "a") as file:
        file.write("/copy.png /0_label.png\n/2.png /2_label.png\n")
    assert findings(folder) == {("duplicate", "list.txt:4", False), ("duplicate", "list.txt:5", False)}
    (folder / "val.txt").write_text("/copy.png /0_label.png\n/0.png /0_label.png\n/gone.png /0_label.png\n")
    (folder / "list.txt").write_text("/0.png /0_label.png\n")
    assert findings(folder, against=["val.txt"]) == {
        ("duplicate", "val.txt:1", True), ("duplicate", "val.txt:2", True), ("missing", "val.txt:3", True)}


def test_many_findings_are_cut_in_text_and_whole_in_json(folder, capsys):
    (folder / "list.txt").write_text("".join(f"/gone{i}.png /0_label.png\n" for i in range(9)))
    assert main(["dataset-check", "list.txt", "--root", str(folder), "--most", "2"]) == 1
    assert "and 7 more of this kind (missing)" in capsys.readouterr().out
    assert main(["dataset-check", "list.txt", "--root", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 9 and len(report["findings"]) == 9 and report["classes"][1]["name"] == "aeroplane"


def test_command_ends_well_on_a_sound_list(folder, capsys):
    assert main(["dataset-check", "list.txt", "--root", str(folder), "--crop", "25"]) == 0
    assert "0 errors" in capsys.readouterr().out
    assert main(["dataset-check", "nowhere.txt"]) == 2


def test_bad_arguments_are_refused(folder):
    with pytest.raises(ArgumentError, match="classes"):
        check_dataset("list.txt", str(folder), classes=0)
    with pytest.raises(FileMissingError):
        check_dataset("gone.txt", str(folder))


def test_photographs_have_the_published_histogram(shared_data):
    voc = shared_data / "voc"
    report = check_dataset(voc / "list/devval.txt", str(voc), crop=321, against=[voc / "list/train.txt"])
    assert report.errors == 0 and report.images == 250
    labelled = report.pixels.sum() - report.pixels[255]
    assert report.pixels[0] / labelled == pytest.approx(0.7063, abs=1e-4)
    assert report.void_share == pytest.approx(0.0539, abs=1e-4) and report.images_with[15] == 102
