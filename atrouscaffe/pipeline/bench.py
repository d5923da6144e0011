"""The paper's models on a list of images: weights found, nets run once, results kept for every table and figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.data.dataset import find_samples
from atrouscaffe.data.palette import read_labels
from atrouscaffe.data.voc import Sample
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, FileMissingError
from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.pipeline.evaluate import Report, evaluate, run_settings
from atrouscaffe.pipeline.paper import METHODS, seen_in_training
from atrouscaffe.pipeline.registry import by_name, find_prototxt, missing_weights
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.pipeline.sources import NetSource
from atrouscaffe.pipeline.speed import fill_at_random, sized_net
from atrouscaffe.pipeline.store import RunStore

__all__ = ["Bench"]

SUFFIXES = (".caffemodel", ".caffemodel.h5")
VOC_MISSING = ("PASCAL VOC 2012 is missing ({problem}). Its organisers publish VOCtrainval_11-May-2012.tar (2 GB) at "
               "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/; unpack it and name the folder VOCdevkit/VOC2012 with "
               "--voc")
STAND_IN = "stand-in weights: random numbers in nets of the real geometry; the figures mean nothing"


@dataclass
class Bench:
    """What `reproduce` runs on.

    Attributes
    ----------
    out : Path
        Label maps of each model are kept in ``out/MODEL``, so that no image runs twice for two tables.
    voc : path, optional
    list_name : str
    limit : int, optional
        Only the first so many images.
    weights : dict of str to path
        Of each model, by its name; ``weights_folder/MODEL/`` is looked through for the others.
    weights_folder : path, optional
    stand_in : bool
        Random weights for all models.
    input_size : int, optional
        Side of the nets' input in place of the written one (to the next 8 pixels).
    device : str
    precision : {"fp32", "tf32", "fp16"}
    say : callable of str
        Told what is being done.
    others : dict of str to path
        Folders of other methods' predictions, for Fig. 6.
    notes : list of str
        Warnings, and what is missing and how to get it, each once.
    """

    out: Path
    voc: Path | None = None
    list_name: str = "val"
    limit: int | None = None
    weights: dict[str, Path] = field(default_factory=dict)
    weights_folder: Path | None = None
    stand_in: bool = False
    input_size: int | None = None
    device: str = "cpu"
    precision: str = "fp32"
    say: Callable[[str], object] = lambda text: None
    progress: Callable[[str, int], Callable[[int, Report], object]] | None = None
    others: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    incomplete: bool = False
    _reports: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _samples: list[Sample] | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.weights if name not in METHODS]
        if unknown:
            raise ArgumentError(f"weights: expected one of the models {', '.join(METHODS)}, got {unknown[0]!r}")
        if self.stand_in:
            self.note(STAND_IN)

    def note(self, text: str, *, lacking: bool = False) -> None:
        """Keep a remark for the end, once; `lacking` marks the reproduction as incomplete."""
        self.incomplete |= lacking
        if text and text not in self.notes:
            self.notes.append(text)

    def samples(self) -> list[Sample]:
        """Return the images; none, and a note, where the data are missing."""
        if self._samples is None:
            try:
                if self.voc is None:
                    raise FileMissingError("no folder was named")
                self._samples = find_samples(self.voc, self.list_name)[:self.limit]
            except AtrousCaffeError as error:
                self.note(VOC_MISSING.format(problem=error), lacking=True)
                self._samples = []
        return self._samples

    def weights_of(self, model: str) -> Path | None:
        """Return a model's weights; None, and a note with what to get and where to put it, without any."""
        known = by_name(model)
        assert known is not None
        if model in self.weights:
            path = Path(self.weights[model])
            if path.is_file():
                return path
            self.note(f"{known.title}: there is no file {path}", lacking=True)
            return None
        places = [self.weights_folder / name for name in (model, *known.aliases)] if self.weights_folder else []
        for place in places:
            files = sorted(path for path in place.glob("*") if path.name.endswith(SUFFIXES))
            trained = [path for path in files if path.name.startswith("train_iter_")]  # on train_aug, as Table 1(a)
            if files:
                return max(trained or files, key=lambda path: (len(path.name), path.name))
        folder = self.weights_folder or Path("WEIGHTS")
        file = known.weights or "train_iter_6000.caffemodel"
        text = missing_weights(known).removesuffix("; give it with --weights FILE").split("; train it")[0]
        how = "" if known.weights else f" Train it: atrouscaffe train --solver prototxt/{model}/solver.prototxt."
        self.note(f"{text}.{how} Put it at {folder / model / file} (--weights-dir {folder}), or name it: --weights "
                  f"{model}=FILE", lacking=True)
        return None

    def segmenter(self, model: str) -> Segmenter | None:
        """Return a model ready to run with its CRF parameters, None where it has no weights."""
        spec = sized_net(read_net(find_prototxt(model)), self.input_size)
        if self.stand_in:
            segmenter = Segmenter(spec, None, self.device, precision=self.precision, crf=True, allow_missing=True)
            fill_at_random(segmenter.net, seed=sorted(METHODS).index(model))
            return segmenter
        path = self.weights_of(model)
        if path is None:
            return None
        self.note(seen_in_training(path, self.list_name))
        return Segmenter(spec, path, self.device, precision=self.precision, crf=True)

    def figures(self, model: str) -> dict[str, Any] | None:
        """Return a model's figures without and with CRF; None where weights or images are missing."""
        if model not in self._reports:
            self._reports[model] = self._run(model)
        return self._reports[model]

    def _run(self, model: str) -> dict[str, Any] | None:
        samples = self.samples()
        segmenter = self.segmenter(model) if samples else None
        if segmenter is None:
            if not samples and not self.stand_in:
                self.weights_of(model)  # say what it lacks, too
            return None
        self.say(f"{METHODS[model]}: {len(samples)} images")
        source = NetSource(segmenter)
        store = RunStore(self.out / model, run_settings(source))
        report = evaluate(source, samples, store=store,
                          progress=self.progress(METHODS[model], len(samples)) if self.progress else None)
        for text in report.failed:
            self.note(f"{METHODS[model]}: left out: {text}", lacking=True)
        if not report.per_image:
            return None
        return {"model": model, "crf_parameters": segmenter.crf} | report.as_dict()

    def mean_iou(self, model: str, kind: str) -> float | None:
        """Return the mean IoU over 21 classes in per cent, None where it cannot be had."""
        figures = self.figures(model)
        return figures[kind]["mean_iou"] if figures else None

    def available(self, models: Sequence[str]) -> list[str]:
        """Return the models among these that can be run here."""
        return [model for model in models if self.figures(model) is not None]

    def labels(self, model: str, kind: str, ident: str) -> np.ndarray | None:
        """Return a label map that was made, None where there is none."""
        if self.figures(model) is None:
            return None
        path = self.out / model / kind / f"{ident}.png"
        return read_labels(path) if path.is_file() else None
