"""The demo labels what the strokes mean and writes its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools import demo

pytest.importorskip("skimage", reason="the demo's photograph comes with scikit-image")

PLACES = {  # (x, y) -> what a person would say, all away from the strokes
    (330, 240): "background", (470, 320): "background", (45, 90): "flag", (40, 130): "flag", (240, 60): "person",
    (195, 130): "person", (60, 300): "person", (440, 450): "person", (410, 60): "shuttle", (385, 160): "shuttle"}


def test_demo_labels_what_the_strokes_mean() -> None:
    image = demo.photograph()
    strokes = demo.scribbles(*image.shape[:2])
    labels = demo.refine(image, strokes)
    names = [name for name, _, _ in demo.LABELS]
    assert {place: names[labels[place[1], place[0]]] for place in PLACES} == PLACES
    assert all(strokes[y, x] == demo.UNSURE for x, y in PLACES)
    known = strokes != demo.UNSURE
    assert np.mean(labels[known] == strokes[known]) > 0.9


def test_demo_writes_a_picture_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    assert demo.main(["--out", str(tmp_path / "new")]) == 0
    path = tmp_path / "new" / "scribbles-refined.png"
    assert str(path) in capsys.readouterr().out
    assert cv2.imread(str(path)).shape == (512 + 36, 1024, 3)


def test_demo_without_a_folder_to_write_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert demo.main(["--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be made" in capsys.readouterr().err
