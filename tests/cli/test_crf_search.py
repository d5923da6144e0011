"""``atrouscaffe crf-search``: table, JSON, picture, warning, resumption."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from atrouscaffe.cli.main import main


@pytest.fixture
def data(tmp_path):
    """Four pictures in VOC's layout with saved scores."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "scores"):
        (tmp_path / name).mkdir(parents=True)
    names = []
    for n in range(4):
        random = np.random.default_rng(n)
        truth = (np.mgrid[:18, :22][1] > 8 + n).astype(np.uint8)
        image = np.repeat(truth[..., None] * 120 + 60, 3, axis=2).astype(np.uint8)
        scores = np.stack([truth == 0, truth == 1]) * 1.0 + random.normal(size=(2, 18, 22))
        names.append(f"2007_{n:06d}")
        Image.fromarray(image).save(tmp_path / "JPEGImages" / f"{names[-1]}.jpg")
        Image.fromarray(truth).save(tmp_path / "SegmentationClass" / f"{names[-1]}.png")
        np.savez(tmp_path / "scores" / f"{names[-1]}.npz", scores=scores.astype(np.float32))
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("\n".join(names[:3]) + "\n")
    (lists / "val.txt").write_text("\n".join(names[2:]) + "\n")
    return tmp_path


def search(data, *words):
    return main(["crf-search", "--data", str(data), "--list", "train", "--scores", str(data / "scores"),
                 "--classes", "2", "--sigma-xy", "5,10", "--sigma-rgb", "10:10:30", "--weight", "2", "--out",
                 str(data / "out"), *map(str, words)])


def test_grid_writes_table_json_and_picture_and_resumes(data, capsys):
    assert search(data, "--method", "grid", "--evaluation-list", "val") == 0
    first = capsys.readouterr()
    assert "2007_000002" in first.err and "flatter" in first.err
    results = json.loads((data / "out" / "search.json").read_text())["results"]
    assert len(results) == 7 and first.out == (data / "out" / "search.txt").read_text()
    assert results[0]["mean_iou"] == max(r["mean_iou"] for r in results)
    assert next(r for r in results if r["iterations"] == 0)["mean_iou"] < results[0]["mean_iou"]
    with Image.open(data / "out" / "heatmap.png") as picture:
        assert picture.size[0] > 200
    journal = data / "out" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    assert search(data, "--method", "grid") == 0
    assert capsys.readouterr().out == first.out


def test_coarse_to_fine_goes_around_the_best(data, capsys):
    assert search(data, "--rounds", 1, "--limit", 2) == 0
    results = json.loads((data / "out" / "search.json").read_text())["results"]
    assert len(results) > 7 and {r["bilateral_weight"] for r in results} >= {1.5, 2, 2.5}
    assert "no CRF" in capsys.readouterr().out


def test_random_points_are_the_same_for_the_same_seed(data, capsys):
    assert search(data, "--method", "random", "--samples", 5, "--seed", 3) == 0
    first = capsys.readouterr().out
    assert search(data, "--method", "random", "--samples", 5, "--seed", 3, "--out", data / "other") == 0
    assert capsys.readouterr().out == first and len(first.splitlines()) == 7


def test_bad_input_has_status_2(data, capsys):
    (data / "scores" / "2007_000001.npz").unlink()
    assert search(data) == 2 and "2007_000001" in capsys.readouterr().err
    assert search(data, "--iterations", 0) == 2 and "--iterations" in capsys.readouterr().err
