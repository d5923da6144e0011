"""The choices by which mean IoU gets lost: what is used here, and what the other way would give.

Each entry names one choice. Measured, the other way runs on the same images and the difference of mean
IoU, over the classes that the truth has, stands beside it in points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from atrouscaffe.data.image import read_image, resize_image
from atrouscaffe.data.voc import Sample
from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.metrics import ConfusionMatrix
from atrouscaffe.net import Net
from atrouscaffe.ops.interp import resize
from atrouscaffe.pipeline.evaluate import load_truth
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.spec import TEST

__all__ = ["ledger"]

ENTRIES = {
    "decoder": ("OpenCV's JPEG decoder", "Pillow's"),
    "resize policy": ("the image at its own size, padded", "resized to the net's size, scores resized back"),
    "padding": ("the mean (0 after subtraction)", "black pixels"),
    "mean": ("subtracted", "not subtracted"),
    "channel order": ("as the net was trained", "red and blue exchanged"),
    "palette": ("label maps by index", "read as grey by OpenCV; values above the last class ignored"),
    "void": ("left out (255)", "counted as class 0"),
    "averaging": ("one confusion matrix over the list", "IoU of each image, averaged"),
    "corner alignment": ("scores enlarged with aligned corners", "with half-pixel centres (cv2.resize)"),
    "precision": ("float32 weights", "weights rounded to float16"),
}
"""Choice → (the way used, the other way)."""


def ledger(segmenter: Segmenter, samples: Sequence[Sample], *, measure: bool = False,
           say: Callable[[str], object] | None = None) -> list[dict[str, Any]]:
    """Return one entry for each choice.

    Parameters
    ----------
    segmenter : Segmenter
    samples : sequence of Sample
        Images that cannot be used, or that are larger than the net's input, are left out of the measurement.
    measure : bool
        Run the other way of each choice, some seven passes an image; without the CRF.
    say : callable of str, optional
        Told how far it is.

    Returns
    -------
    list of dict
        ``leak``, ``used``, ``other``, ``effect`` (points of mean IoU of the other way less ours; None
        where not measured) and ``note``.
    """
    rows: list[dict[str, Any]] = [{"leak": name, "used": used, "other": other, "effect": None, "note": ""}
                                  for name, (used, other) in ENTRIES.items()]
    if measure:
        effects, notes, images = _measure(segmenter, samples, say or (lambda text: None))
        for row in rows:
            row["effect"] = effects.get(row["leak"])
            row["note"] = notes.get(row["leak"], "" if row["effect"] is None else f"{images} images")
    return rows


def _measure(segmenter: Segmenter, samples: Sequence[Sample],
             say: Callable[[str], object]) -> tuple[dict[str, float], dict[str, str], int]:
    """Return effects in points, notes, and how many images took part."""
    classes = segmenter.classes
    matrices = {name: ConfusionMatrix(classes) for name in ("used", *ENTRIES)}
    by_image: list[float] = []
    used: list[tuple[Sample, np.ndarray]] = []
    coarse = _coarse_net(segmenter)
    notes = {} if coarse else {"corner alignment": "the net does not end in one enlargement: not measured"}
    for done, sample in enumerate(samples, 1):
        try:
            image = read_image(sample.image)
            truth = load_truth(sample, (image.shape[0], image.shape[1]), classes)
        except AtrousCaffeError:  # listed by the evaluation itself
            continue
        if any(side > most for side, most in zip(image.shape, segmenter.deploy.size)):
            continue
        labels = segmenter.scores(image).argmax(0)
        one = ConfusionMatrix(classes)
        one.update(truth, labels)
        matrices["used"] += one
        by_image.append(one.mean_iou("skip"))
        for name, other_truth in _truths(sample, truth, classes):
            matrices[name].update(other_truth, labels)
        for name, scores in _passes(segmenter, sample, image, coarse):
            matrices[name].update(truth, scores.argmax(0))
        used.append((sample, truth))
        say(f"ledger: {done}/{len(samples)} images")
    with _halved(segmenter):
        for sample, truth in used:
            matrices["precision"].update(truth, segmenter.scores(read_image(sample.image)).argmax(0))
    base = matrices["used"].mean_iou("skip")
    values = {name: matrix.mean_iou("skip") for name, matrix in matrices.items() if matrix.pixels}
    values["averaging"] = float(np.nanmean(by_image)) if by_image else float("nan")
    effects = {name: round(100 * (values[name] - base), 3) for name in ENTRIES
               if name in values and np.isfinite(values[name]) and name not in notes}
    return effects, notes, len(used)


def _truths(sample: Sample, truth: np.ndarray, classes: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the truth as the other ways read it."""
    if sample.label is not None:
        grey = read_image(sample.label, gray=True)
        yield "palette", np.where(grey < classes, grey, 255).astype(np.uint8)
    yield "void", np.where(truth == 255, 0, truth).astype(np.uint8)


def _passes(segmenter: Segmenter, sample: Sample, image: np.ndarray,
            coarse: Net | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield scores at the image's size from passes of the other kinds."""
    height, width = image.shape[:2]
    size = segmenter.deploy.size
    yield "decoder", segmenter.scores(_by_pillow(sample))
    warped = segmenter.scores(resize_image(image, *size))
    yield "resize policy", np.stack([resize_image(plane, height, width) for plane in warped])
    yield "channel order", segmenter.scores(np.ascontiguousarray(image[..., ::-1]))
    shift = segmenter.mean * np.float32(segmenter.scale)
    padded = segmenter.prepare(image, size)
    black = padded - shift
    black[:, :, :height, :width] = padded[:, :, :height, :width]
    yield "padding", _forward(segmenter, black)[:, :height, :width]
    padded[:, :, :height, :width] += shift
    yield "mean", _forward(segmenter, padded)[:, :height, :width]
    if coarse is not None:
        coarse.blobs[segmenter.deploy.input].data[...] = segmenter.prepare(image, size)
        scores = coarse.forward()[coarse.outputs[0]][0]
        yield "corner alignment", np.stack([resize_image(plane, *size) for plane in scores])[:, :height, :width]


def _by_pillow(sample: Sample) -> np.ndarray:
    from PIL import Image

    with Image.open(sample.image) as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])


def _forward(segmenter: Segmenter, padded: np.ndarray) -> np.ndarray:
    """Return the scores (C, H, W) of a prepared input of the net's own size."""
    net, deploy = segmenter.net, segmenter.deploy
    net.blobs[deploy.input].data[...] = padded
    net.forward()
    scores = net.blobs[deploy.score].data
    if scores.shape[2:] == deploy.size:
        return scores[0].copy()
    enlarged = np.empty((1, segmenter.classes, *deploy.size), np.float32)
    resize(scores, enlarged)
    return enlarged[0]


def _coarse_net(segmenter: Segmenter) -> Net | None:
    """Return the net without the enlargement at its end, None where it does not end in one."""
    deploy = segmenter.deploy
    last = deploy.spec.layers[-1]
    if last.type != "Interp" or deploy.dims:
        return None
    spec = dataclasses.replace(deploy.spec, layers=deploy.spec.layers[:-1])
    net = Net(spec, TEST, keep=[last.bottoms[0]], device=segmenter.net.backend.name,
              precision=segmenter.net.backend.precision, seed=0,
              input_shapes=deploy.input_shapes(deploy.size), allow_paths=deploy.paths.allowed)
    net.share_with(segmenter.net)
    return net if net.outputs == [last.bottoms[0]] else None


class _halved:
    """Rounds a net's weights to float16 inside a with block."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.blobs = [blob for blobs in segmenter.net.params.values() for blob in blobs]
        self.kept: list[np.ndarray] = []

    def __enter__(self) -> None:
        self.kept = [blob.data.copy() for blob in self.blobs]
        with np.errstate(over="ignore"):
            for blob in self.blobs:
                blob.data[...] = blob.data.astype(np.float16)

    def __exit__(self, *_: object) -> None:
        for blob, values in zip(self.blobs, self.kept):
            blob.data[...] = values
