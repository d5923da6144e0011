"""The embedded model: it comes with the package, is small, is our own, and sees the cat."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atrouscaffe import Segmenter
from atrouscaffe.cli.main import main
from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import read_labels
from atrouscaffe.formats.weights import open_weights
from atrouscaffe.pipeline.registry import EMBEDDED, by_name, by_weights, shipped_weights
from tests.conftest import ROOT
from tools.train_embedded import compare

HERE = Path(__file__).resolve().parent
MODEL = by_name(EMBEDDED)
WEIGHTS = shipped_weights(MODEL)
START = "models/deeplabv3_mnv2/deeplabv3_mnv2_dm05_voc.caffemodel"


def photograph(name: str) -> Path:
    skimage = pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    return Path(skimage.__file__).parent / "data" / name


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter()


def test_weights_are_small_and_whole_and_their_large_blobs_of_half_precision() -> None:
    assert WEIGHTS.stat().st_size <= 3e6
    file = open_weights(WEIGHTS)
    assert all([blob.dtype for blob in layer.blobs] == ["float16", "float32"] for layer in file.layers if layer.blobs)
    assert sum(blob.count for layer in file.layers for blob in layer.blobs) == MODEL.parameters
    assert all(np.isfinite(blob.load()).all() for layer in file.layers for blob in layer.blobs)
    assert by_weights(WEIGHTS) is MODEL


def test_segmenter_without_arguments_is_the_embedded_model(segmenter: Segmenter) -> None:
    assert segmenter.model is MODEL and segmenter.classes == 21
    assert segmenter.net.reports[0].complete and not segmenter.net.reports[0].unused
    assert "known model" in segmenter.preprocessing


@pytest.mark.parametrize(("name", "label", "share"), [("chelsea", "cat", 0.4), ("astronaut", "person", 0.3)])
def test_labels_of_photographs_are_the_recorded_ones(segmenter: Segmenter, name: str, label: str,
                                                      share: float) -> None:
    found = segmenter(read_image(photograph(f"{name}.png"))).labels
    recorded = read_labels(HERE / "embedded" / f"{name}.png")
    assert found.shape == recorded.shape
    assert np.mean(found == recorded) > 0.9995  # a handful of near ties may fall otherwise on another processor
    assert np.mean(found == segmenter.names.index(label)) > share


def test_segment_command_without_a_model_uses_it_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["segment", str(photograph("chelsea.png"))]) == 0
    printed = capsys.readouterr()
    assert "using the embedded model" in printed.err and "cat" in printed.out
    assert np.array_equal(read_labels(tmp_path / "segmented" / "chelsea.png"),
                          read_labels(HERE / "embedded" / "chelsea.png"))


def test_every_blob_differs_from_the_start(shared_data: Path) -> None:
    same, total, unchanged = compare(WEIGHTS, shared_data / START)
    assert not unchanged
    assert total > 400_000 and same / total < 0.6


def test_log_shows_an_interruption_and_what_followed() -> None:
    rows = [json.loads(line) for line in (ROOT / "docs" / "embedded" / "log.jsonl").read_text().splitlines()]
    events = [(row["stage"], row["event"]) for row in rows]
    for stage in ("scores", "whole"):
        assert (stage, "end") in events
    stage = next(stage for stage, event in events if event == "interrupted")
    stop = events.index((stage, "interrupted"))
    restored = events.index((stage, "restore"), stop)
    assert rows[restored]["iteration"] == rows[stop]["iteration"]
    assert any(row["event"] == "iteration" and row["iteration"] > rows[stop]["iteration"] for row in rows[restored:])
