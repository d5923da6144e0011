"""Search for CRF parameters on images with saved scores and ground truth.

A lattice depends on an image and its sigmas alone, so the search goes through the images one by
one, builds each lattice once, and tries all weights on it. Every result is appended to a file
before the next begins: a search that was killed goes on where it stopped, to the same table.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.errors import ArgumentError, DataError, FileAccessError
from atrouscaffe.runtime.threads import parallel

__all__ = ["Item", "Journal", "Point", "Result", "finer", "grid", "mean_iou", "overlap", "random_points", "run_points"]


@dataclass(frozen=True, order=True)
class Point:
    """One set of parameters: the bilateral kernel's, the position kernel's, the iterations.

    A point whose `iterations` is 0 stands for no CRF.
    """

    bilateral_sigma_xy: float
    bilateral_sigma_rgb: float
    bilateral_weight: float
    position_sigma: float = 3.0
    position_weight: float = 3.0
    iterations: int = 10

    @property
    def key(self) -> str:
        """Text that names the point in a journal."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Item:
    """One image of the search.

    Attributes
    ----------
    name : str
    load : callable
        Returns (image (H, W, 3) RGB, scores (L, H, W), truth (H, W) with 255 for void).
    """

    name: str
    load: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Result:
    """A point and how it did on all images."""

    point: Point
    mean_iou: float
    pixel_accuracy: float


def grid(sigma_xy: Sequence[float], sigma_rgb: Sequence[float], weight: Sequence[float],
         position_sigma: Sequence[float] = (3.0,), position_weight: Sequence[float] = (3.0,),
         iterations: int = 10) -> list[Point]:
    """Return all combinations; the paper's are 50:10:100, 3:1:10 and 5:1:10 (section 5)."""
    lists = (sigma_xy, sigma_rgb, weight, position_sigma, position_weight)
    return [Point(*map(float, values), iterations) for values in itertools.product(*lists)]


def random_points(count: int, sigma_xy: tuple[float, float], sigma_rgb: tuple[float, float],
                  weight: tuple[float, float], *, position_sigma: float = 3.0, position_weight: float = 3.0,
                  iterations: int = 10, seed: int = 10) -> list[Point]:
    """Return `count` points drawn from ranges, uniformly in the logarithm; the same for the same seed."""
    for name, (low, high) in (("sigma_xy", sigma_xy), ("sigma_rgb", sigma_rgb), ("weight", weight)):
        if not 0 < low <= high:
            raise ArgumentError(f"{name}: expected a range above 0 from low to high, got {low} … {high}")
    random = np.random.default_rng(seed)
    drawn = np.exp(random.uniform(*np.log([sigma_xy, sigma_rgb, weight]).T, (count, 3)))
    return [Point(round(float(a), 2), round(float(b), 2), round(float(c), 2), position_sigma, position_weight,
                  iterations) for a, b, c in drawn]


def finer(best: Point, steps: tuple[float, float, float]) -> list[Point]:
    """Return the points around `best`, half a step away: the paper's second stage.

    Parameters
    ----------
    best : Point
    steps : (sigma_xy, sigma_rgb, weight)
        Distances of the grid that `best` was found on.
    """
    values = []
    for at, step in zip((best.bilateral_sigma_xy, best.bilateral_sigma_rgb, best.bilateral_weight), steps):
        values.append(sorted({round(v, 6) for v in (at - step / 2, at, at + step / 2) if v > 0}))
    return grid(*values, (best.position_sigma,), (best.position_weight,), best.iterations)


def mean_iou(confusion: np.ndarray) -> float:
    """Return the mean over all classes of tp / (truth + predicted - tp), 0 where a class never occurs."""
    hit = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hit
    return float(np.divide(hit, union, out=np.zeros_like(hit), where=union > 0).mean())


def overlap(searched: Iterable[str], evaluated: Iterable[str]) -> list[str]:
    """Return the names that both lists hold, sorted: parameters must not be judged where they were found."""
    return sorted(set(searched) & set(evaluated))


class Journal:
    """What is known so far, one line of JSON a result, on disk before it is used.

    Parameters
    ----------
    path : path or None
        None keeps everything in memory.
    settings : dict
        What results depend on beside points and images; a journal of other settings is refused.

    Raises
    ------
    DataError
        The file is of another search, or damaged before its last line.
    """

    def __init__(self, path: str | os.PathLike | None, settings: dict) -> None:
        self.path, self._lock = None if path is None else Path(path), threading.Lock()
        self._known: dict[tuple[str, str], list[int]] = {}
        self._file = None
        if self.path is None:
            return
        head = json.dumps({"settings": settings}, sort_keys=True)
        end = self._read(head) if self.path.exists() else 0
        try:
            self._file = open(self.path, "r+b" if end else "wb")  # noqa: SIM115  (kept open until close)
            self._file.truncate(end)
            self._file.seek(end)
        except OSError as error:
            raise FileAccessError(f"cannot write the journal: {error.strerror}", str(self.path)) from None
        if not end:
            self._append(head)

    def _read(self, head: str) -> int:
        """Take in what a file holds; return where its last whole line ends."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1  # what a kill left of a line is dropped
        lines = data[:end].splitlines()
        if not lines:
            return 0
        if lines[0] != head.encode():
            raise DataError("this journal is of a search with other images, scores or settings; name another folder "
                            "or delete it", str(self.path))
        for number, line in enumerate(lines[1:], 2):
            try:
                image, point, counts = json.loads(line)
                self._known[image, point] = [int(n) for n in counts]
            except (ValueError, TypeError):
                raise DataError("damaged line", f"{self.path}:{number}") from None
        return end

    def _append(self, line: str) -> None:
        if self._file is None:
            return
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def get(self, image: str, point: Point) -> list[int] | None:
        """Return the counts of an image at a point: pixels by non-zero cell, or None."""
        return self._known.get((image, point.key))

    def add(self, image: str, point: Point, counts: list[int]) -> None:
        """Record a result."""
        with self._lock:
            self._append(json.dumps([image, point.key, counts]))
            self._known[image, point.key] = counts

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _count(truth: np.ndarray, labels: np.ndarray, classes: int) -> list[int]:
    """Return pairs (cell, pixels) of the confusion matrix, flat: most cells are 0."""
    valid = truth < classes
    cells = np.bincount(truth[valid].astype(np.int64) * classes + labels[valid], minlength=classes**2)
    used = np.nonzero(cells)[0]
    return [int(n) for pair in zip(used, cells[used]) for n in pair]


def _try_image(item: Item, points: Sequence[Point], journal: Journal) -> int:
    """Work out the points that an image lacks; return its number of classes."""
    missing = [point for point in points if journal.get(item.name, point) is None]
    if not missing:
        return 0
    image, scores, truth = item.load()
    classes = scores.shape[0]
    if truth.shape != scores.shape[1:]:
        raise DataError(f"ground truth: expected the scores' size {scores.shape[1:]}, got {truth.shape}", item.name)
    energies = np.negative(scores, dtype=np.float32)

    def shape(p: Point) -> tuple:
        return p.position_sigma, p.bilateral_sigma_xy, p.bilateral_sigma_rgb

    for _, group in itertools.groupby(sorted(missing, key=shape), key=shape):
        crf = None
        for point in group:
            if point.iterations == 0:
                journal.add(item.name, point, _count(truth, scores.argmax(axis=0), classes))
                continue
            if crf is None:
                crf = DenseCRF(energies).add_gaussian(point.position_sigma, point.position_weight)
                crf.add_bilateral(image, point.bilateral_sigma_xy, point.bilateral_sigma_rgb, point.bilateral_weight)
            crf.set_weight(0, point.position_weight).set_weight(1, point.bilateral_weight)
            journal.add(item.name, point, _count(truth, crf.infer(point.iterations).labels, classes))
    return classes


def run_points(items: Sequence[Item], points: Sequence[Point], journal: Journal, classes: int, *,
               done: Callable[[int], None] | None = None) -> list[Result]:
    """Try every point on every image, images side by side on all cores.

    Parameters
    ----------
    items : sequence of Item
    points : sequence of Point
    journal : Journal
    classes : int
    done : callable, optional
        Called with the number of images that are finished.

    Returns
    -------
    list of Result
        The best first; equal ones in the order of their parameters.
    """
    if not items or not points:
        raise ArgumentError(f"search: expected images and points, got {len(items)} and {len(points)}")
    finished = itertools.count(1)

    def work(n: int) -> None:
        found = _try_image(items[n], points, journal)
        if found not in (0, classes):
            raise DataError(f"scores: expected {classes} classes, got {found}", items[n].name)
        if done is not None:
            done(next(finished))

    parallel(work, len(items))
    results = []
    for point in dict.fromkeys(points):
        confusion = np.zeros(classes**2, np.int64)
        for item in items:
            counts = journal.get(item.name, point)
            np.add.at(confusion, counts[::2], counts[1::2])
        confusion = confusion.reshape(classes, classes)
        results.append(Result(point, mean_iou(confusion), float(np.trace(confusion) / max(1, confusion.sum()))))
    return sorted(results, key=lambda result: (-result.mean_iou, result.point))
