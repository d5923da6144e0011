"""The search: tables, resumption after a kill, overlap, stages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.crf.search import (
    Item,
    Journal,
    Point,
    finer,
    grid,
    mean_iou,
    overlap,
    random_points,
    run_points,
)
from atrouscaffe.errors import ArgumentError, DataError

POINTS = [Point(1, 1, 1, iterations=0), *grid([10, 20], [10, 30], [1, 4], iterations=2)]


def load(seed):
    random = np.random.default_rng(seed)
    truth = (np.mgrid[:18, :22][1] > 11).astype(np.uint8)
    truth[:2] = 255
    image = np.clip(truth[..., None] % 255 * 90 + random.integers(0, 30, (18, 22, 3)), 0, 255).astype(np.uint8)
    scores = np.stack([truth == 0, truth == 1, truth == 2]) + 1.2 * random.normal(size=(3, 18, 22))
    return image, scores.astype(np.float32), truth


def items(count=4):
    return [Item(f"image{n}", lambda n=n: load(n)) for n in range(count)]


def test_results_equal_plain_inference():
    results = run_points(items(), POINTS, Journal(None, {}), 3)
    assert len(results) == len(POINTS) and results[0].mean_iou == max(r.mean_iou for r in results)
    for result in results:
        confusion = np.zeros((3, 3), int)
        for n in range(4):
            image, scores, truth = load(n)
            crf, p = DenseCRF(-scores), result.point
            if p.iterations:
                crf.add_gaussian(3, 3)
                crf.add_bilateral(image, p.bilateral_sigma_xy, p.bilateral_sigma_rgb, p.bilateral_weight)
            labels = crf.infer(p.iterations).labels
            for t, l in zip(truth[truth < 3], labels[truth < 3]):
                confusion[t, l] += 1
        assert result.mean_iou == pytest.approx(mean_iou(confusion), abs=1e-12)
        assert result.pixel_accuracy == pytest.approx(np.trace(confusion) / confusion.sum())
    plain = next(r for r in results if not r.point.iterations)
    assert results[0].mean_iou > plain.mean_iou


def test_mean_iou_counts_absent_classes_as_zero():
    confusion = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert mean_iou(confusion) == pytest.approx((3 / 6 + 4 / 7) / 3)


def test_journal_resumes_and_drops_what_a_kill_left(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, {"a": 1})
    wanted = run_points(items(), POINTS, journal, 3)
    journal.close()
    whole = path.read_bytes()
    loads = []

    def counted(n):
        loads.append(n)
        return load(n)

    for cut in (len(whole), len(whole) // 2, len(whole) // 3 + 5, 3):
        path.write_bytes(whole[:cut])
        loads.clear()
        journal = Journal(path, {"a": 1})
        again = run_points([Item(f"image{n}", lambda n=n: counted(n)) for n in range(4)], POINTS, journal, 3)
        journal.close()
        assert again == wanted and bool(loads) == (cut < len(whole))
        assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_journal_of_another_search_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, {"a": 1}).close()
    with pytest.raises(DataError, match="another|other"):
        Journal(path, {"a": 2})
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(DataError, match="damaged"):
        Journal(path, {"a": 1})


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.crf.test_search import POINTS, items
from atrouscaffe.crf.search import Journal, run_points
journal = Journal({path!r}, {{}})
print("ready", flush=True)
for result in run_points(items(12), POINTS, journal, 3):
    print(result)
print("finished")
"""


def test_search_survives_kills_at_random_moments(tmp_path):
    random = np.random.default_rng(7)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    wanted = [str(r) for r in run_points(items(12), POINTS, Journal(None, {}), 3)]
    command = [sys.executable, "-c", SCRIPT.format(root=root, path=str(tmp_path / "journal.jsonl"))]
    for attempt in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if attempt == 3:
            lines = process.communicate(timeout=120)[0].splitlines()
            break
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert lines[1:-1] == wanted and lines[-1] == "finished"


def test_stages():
    assert len(grid(range(50, 101, 10), range(3, 11), (5, 10))) == 96
    around = finer(Point(60, 4, 5), (10, 1, 5))
    assert len(around) == 27 and Point(55, 4.5, 2.5) in around and Point(60, 4, 5) in around
    assert all(p.bilateral_sigma_rgb > 0 for p in finer(Point(60, 0.4, 5), (10, 1, 5)))
    drawn = random_points(20, (30, 100), (2, 10), (1, 10))
    assert drawn == random_points(20, (30, 100), (2, 10), (1, 10)) and len(set(drawn)) == 20
    assert all(30 <= p.bilateral_sigma_xy <= 100 and 2 <= p.bilateral_sigma_rgb <= 10 for p in drawn)
    with pytest.raises(ArgumentError):
        random_points(20, (0, 100), (2, 10), (1, 10))


def test_bad_searches_are_refused():
    with pytest.raises(ArgumentError):
        run_points([], POINTS, Journal(None, {}), 3)
    with pytest.raises(DataError, match="classes"):
        run_points(items(), POINTS, Journal(None, {}), 4)
    assert overlap(["a", "b"], ["b", "c"]) == ["b"]
