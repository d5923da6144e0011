"""Scores of a model over a list of images with ground truth.

Images are decoded ahead in threads, the net runs in the caller's thread, and the CRF, the files and the
counting follow in further threads, so that the net never waits for them while there is room.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import explain_values, read_labels
from atrouscaffe.data.prefetch import Prefetch
from atrouscaffe.data.voc import Sample
from atrouscaffe.errors import AtrousCaffeError, DataError
from atrouscaffe.pipeline.scoring import DISTANCE_WIDTHS, Distances, Evaluation, Scored, score
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.pipeline.sources import NetSource, ScoreSource, probabilities
from atrouscaffe.pipeline.store import RunStore
from atrouscaffe.runtime.threads import num_threads

__all__ = ["DISTANCE_WIDTHS", "Evaluation", "Report", "evaluate", "evaluate_predictions", "run_settings"]

AHEAD = 4
"""Images decoded ahead."""
BEHIND = 3
"""Images whose scores wait for the CRF, the files and the counting, at most: some 100 MB each."""


@dataclass
class Report:
    """What `evaluate` found.

    Attributes
    ----------
    evaluations : dict of str to Evaluation
        ``"plain"``, and ``"crf"`` where there was one.
    per_image : dict of str to dict
        Of each image, for each evaluation: ``pixel_accuracy`` and ``mean_iou`` in per cent.
    failed : list of str
        What went wrong with images that were left out.
    seconds : dict of str to float
        Time inside the net and the CRF, summed over images, and of the whole run (``wall``).
    resumed : int
        Images whose label maps were there already.
    """

    evaluations: dict[str, Evaluation]
    per_image: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"net": 0.0, "crf": 0.0, "wall": 0.0})
    resumed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        names = next(iter(self.evaluations.values())).names
        return {"images": len(self.per_image), "resumed": self.resumed, "class_order": list(names),
                **{name: evaluation.summary() for name, evaluation in self.evaluations.items()},
                "per_image": self.per_image, "failed": self.failed,
                "seconds": {key: round(value, 3) for key, value in self.seconds.items()}}


@dataclass
class _Loaded:
    """One image with its truth, and its label maps where they are there already."""

    image: np.ndarray
    truth: np.ndarray
    done: dict[str, np.ndarray] | None


@dataclass
class _Finished:
    scored: dict[str, Scored]
    crf_seconds: float = 0.0


def run_settings(source: ScoreSource) -> dict[str, dict[str, Any]]:
    """Return what the results of each kind depend on, for `RunStore`."""
    settings = {"plain": source.settings()}
    if source.crf is not None:
        settings["crf"] = settings["plain"] | {"crf": source.crf}
    return settings


def load_truth(sample: Sample, size: tuple[int, int], classes: int) -> np.ndarray:
    """Read a sample's label map.

    Raises
    ------
    AtrousCaffeError
        None there, not of the image's size, or with labels out of range.
    """
    if sample.label is None:
        raise DataError("no label map", str(sample.image))
    truth = read_labels(sample.label)
    if truth.shape != size:
        raise DataError(f"label map of {truth.shape[1]}x{truth.shape[0]} pixels, but its image has "
                        f"{size[1]}x{size[0]}", str(sample.label))
    wrong = explain_values(truth, classes)
    if wrong:
        raise DataError(wrong, str(sample.label))
    return truth


def _load(sample: Sample, classes: int, store: RunStore | None) -> _Loaded | str:
    """Return image and truth, or what is wrong with them."""
    try:
        image = read_image(sample.image)
        truth = load_truth(sample, (image.shape[0], image.shape[1]), classes)
        done = store.load(sample.id) if store is not None else None
        if done is not None and any(labels.shape != truth.shape for labels in done.values()):
            done = None
        return _Loaded(image, truth, done)
    except AtrousCaffeError as error:
        return str(error)


class _Run:
    """The threads behind the net, and what they hand back in the order of the list."""

    def __init__(self, source: ScoreSource, report: Report, store: RunStore | None, trimap: bool) -> None:
        self.source, self.report, self.store, self.trimap = source, report, store, trimap
        self.pool = ThreadPoolExecutor(max(1, min(BEHIND, num_threads())), thread_name_prefix="atrouscaffe-behind")
        self.waiting: collections.deque[tuple[Sample, Future[_Finished] | str]] = collections.deque()

    def start(self, sample: Sample, loaded: _Loaded | str) -> None:
        """Run the net on one image, and let the rest follow."""
        if isinstance(loaded, str):
            self.waiting.append((sample, loaded))
        elif loaded.done is not None:
            self.report.resumed += 1
            self.waiting.append((sample, self.pool.submit(self._count, loaded, loaded.done)))
        else:
            begin = time.perf_counter()
            try:
                scores = self.source.scores(sample.id, loaded.image)
            except AtrousCaffeError as error:
                self.waiting.append((sample, f"{sample.image}: {error}"))
                return
            self.report.seconds["net"] += time.perf_counter() - begin
            self.waiting.append((sample, self.pool.submit(self._finish, sample, loaded, scores)))

    def _finish(self, sample: Sample, loaded: _Loaded, scores: np.ndarray) -> _Finished:
        labels = {"plain": scores.argmax(0).astype(np.uint8)}
        seconds = 0.0
        if self.source.crf is not None:
            from atrouscaffe.crf.densecrf import refine

            begin = time.perf_counter()
            rgb = np.ascontiguousarray(loaded.image[..., ::-1])
            labels["crf"] = refine(rgb, probabilities(scores), **self.source.crf).labels.astype(np.uint8)
            seconds = time.perf_counter() - begin
        if self.store is not None:
            self.store.save(sample.id, labels, scores)
        finished = self._count(loaded, labels)
        finished.crf_seconds = seconds
        return finished

    def _count(self, loaded: _Loaded, labels: dict[str, np.ndarray]) -> _Finished:
        classes = len(self.source.names)
        distances = Distances.of(loaded.truth) if self.trimap else None
        return _Finished({kind: score(loaded.truth, labels[kind], classes, distances)
                          for kind in self.report.evaluations})

    def collect(self) -> None:
        """Take the oldest image's result into the report."""
        sample, result = self.waiting.popleft()
        if not isinstance(result, str):
            try:
                finished = result.result()
            except AtrousCaffeError as error:
                result = f"{sample.image}: {error}"
            else:
                _take(self.report, sample, finished.scored)
                self.report.seconds["crf"] += finished.crf_seconds
                return
        self.report.failed.append(result)

    def ready(self) -> bool:
        """Whether the oldest image is done, or too many wait for it."""
        if not self.waiting:
            return False
        oldest = self.waiting[0][1]
        return len(self.waiting) > BEHIND or isinstance(oldest, str) or oldest.done()


def _take(report: Report, sample: Sample, scored: dict[str, Scored]) -> None:
    for kind, one in scored.items():
        report.evaluations[kind].add(one)
    report.per_image[sample.id] = {kind: one.summary() for kind, one in scored.items()}


def evaluate(source: Segmenter | ScoreSource, samples: Sequence[Sample], *, trimap: bool = True,
             store: RunStore | None = None,
             progress: Callable[[int, Report], object] | None = None) -> Report:
    """Run a model over images and score it, without and, where it has one, with its CRF.

    Parameters
    ----------
    source : Segmenter or ScoreSource
    samples : sequence of Sample
    trimap : bool
        Count in bands along borders, too.
    store : RunStore, optional
        Keeps label maps; images that are there already are scored from their files and not run again.
    progress : callable of (int, Report), optional
        Called behind each image with the number of images done.

    Returns
    -------
    Report
        Images that cannot be used are listed in `failed` and left out. The figures do not depend on
        the number of threads, nor on how often the run was interrupted.
    """
    source = NetSource(source) if isinstance(source, Segmenter) else source
    kinds = ["plain"] + (["crf"] if source.crf is not None else [])
    report = Report({kind: Evaluation(source.names, trimap) for kind in kinds})
    classes, total, done = len(source.names), len(samples), 0
    reader = Prefetch(lambda _, row: _load(samples[row], classes, store) if row < total else "",
                      lambda index: index, ahead=AHEAD, workers=min(2, num_threads()))
    run = _Run(source, report, store, trimap)
    begin = time.perf_counter()

    def collect() -> None:
        nonlocal done
        run.collect()
        done += 1
        report.seconds["wall"] = time.perf_counter() - begin
        if progress is not None:
            progress(done, report)

    try:
        for sample in samples:
            run.start(sample, reader.take())
            while run.ready():
                collect()
        while run.waiting:
            collect()
    finally:
        reader.close()
        run.pool.shutdown(wait=True, cancel_futures=True)
    return report


def evaluate_predictions(folder: str | Path, samples: Sequence[Sample], names: Sequence[str], *, trimap: bool = True,
                         progress: Callable[[int, Report], object] | None = None) -> Report:
    """Score another program's predictions, a folder of index PNGs called as the images are.

    Raises nothing for a bad or missing file: it is listed in the report.
    """
    report = Report({"plain": Evaluation(names, trimap)})
    begin = time.perf_counter()

    def one(sample: Sample) -> dict[str, Scored] | str:
        try:
            if sample.label is None:
                raise DataError("no label map", str(sample.image))
            truth = read_labels(sample.label)
            wrong = explain_values(truth, len(names))
            if wrong:
                raise DataError(wrong, str(sample.label))
            path = Path(folder) / f"{sample.id}.png"
            labels = read_labels(path)
            wrong = explain_values(labels, len(names))
            if wrong:
                raise DataError(wrong, str(path))
            try:
                return {"plain": score(truth, labels, len(names), Distances.of(truth) if trimap else None)}
            except DataError as error:
                raise DataError(str(error), str(path)) from None
        except AtrousCaffeError as error:
            return str(error)

    with ThreadPoolExecutor(max(1, num_threads())) as pool:
        for done, (sample, found) in enumerate(zip(samples, pool.map(one, samples)), 1):
            if isinstance(found, str):
                report.failed.append(found)
            else:
                _take(report, sample, found)
            report.seconds["wall"] = time.perf_counter() - begin
            if progress is not None:
                progress(done, report)
    return report
