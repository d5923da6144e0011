"""Picture grids after the paper's Figures 2, 4, 6 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.crf.densecrf import refine
from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import VOID, colorize, read_labels
from atrouscaffe.data.voc import Sample
from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.pipeline.bench import Bench
from atrouscaffe.pipeline.paper import METHODS, method_name

__all__ = ["fig2", "fig4", "fig6", "fig7", "grid"]

HEIGHT_PX, LABEL_PX, GAP_PX = 160, 18, 6
SHOWN = 4
ITERATIONS = (1, 2, 10)
PREFERRED = ("deeplab-msc-largefov", "deeplab-largefov", "deeplab-7x7", "deeplab-4x4", "deeplab-msc", "deeplab")


def grid(rows: Sequence[Sequence[np.ndarray | None]], names: Sequence[str]) -> np.ndarray:
    """Return pictures in rows, (H, W, 3) uint8 BGR; each row has its name above it.

    Parameters
    ----------
    rows : sequence of sequence of (h, w, 3) uint8 or None
        Columns are as wide as their widest picture; None leaves a place grey.
    names : sequence of str
        One a row.
    """
    import cv2

    def scaled(picture: np.ndarray | None) -> np.ndarray:
        if picture is None:
            return np.full((HEIGHT_PX, HEIGHT_PX, 3), 200, np.uint8)
        width = max(1, round(picture.shape[1] * HEIGHT_PX / picture.shape[0]))
        return cv2.resize(picture, (width, HEIGHT_PX), interpolation=cv2.INTER_AREA)

    small = [[scaled(picture) for picture in row] for row in rows]
    widths = [max(row[i].shape[1] for row in small) for i in range(len(small[0]))]
    size = (len(rows) * (HEIGHT_PX + LABEL_PX + GAP_PX) + GAP_PX, sum(widths) + GAP_PX * (len(widths) + 1))
    canvas = np.full((*size, 3), 255, np.uint8)
    y = GAP_PX
    for name, row in zip(names, small):
        cv2.putText(canvas, name, (GAP_PX, y + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
        x = GAP_PX
        for picture, width in zip(row, widths):
            canvas[y + LABEL_PX:y + LABEL_PX + HEIGHT_PX, x:x + picture.shape[1]] = picture
            x += width + GAP_PX
        y += HEIGHT_PX + LABEL_PX + GAP_PX
    return canvas


def _chosen(bench: Bench) -> list[tuple[Sample, np.ndarray, np.ndarray]]:
    """Return the first usable images with several colours in their truth: sample, image, truth."""
    found = []
    for sample in bench.samples():
        try:
            if sample.label is None:
                continue
            found.append((sample, read_image(sample.image), read_labels(sample.label)))
        except AtrousCaffeError as error:
            bench.note(f"left out: {error}", lacking=True)
        if len(found) == SHOWN:
            break
    return found


def _maps(bench: Bench, model: str, kind: str, chosen: Sequence[Any]) -> list[np.ndarray | None]:
    """Return a model's coloured label maps, None where there are none."""
    maps = [bench.labels(model, kind, sample.id) for sample, _, _ in chosen]
    return [None if labels is None else colorize(labels) for labels in maps]


def _shades(values: np.ndarray) -> np.ndarray:
    """Return values of 0 to 1 in false colours, blue to red."""
    import cv2

    return cv2.applyColorMap((255 * np.clip(values, 0, 1)).astype(np.uint8), cv2.COLORMAP_JET)


def fig2(bench: Bench) -> tuple[np.ndarray | None, list[str]]:
    """Score map and belief map of one class behind the net and behind some iterations of the CRF."""
    chosen = _chosen(bench)
    model = next(iter(bench.available(PREFERRED)), None) if chosen else None
    segmenter = bench.segmenter(model) if model else None
    if model is None or segmenter is None:
        return None, ["not drawn: it takes one image and one model with weights"]
    _, image, truth = chosen[0]
    counts = np.bincount(truth[truth != VOID], minlength=21)
    counts[0] = 0
    shown = int(counts.argmax())
    scores = segmenter.scores(image)
    steps: dict[int, np.ndarray] = {}

    def keep(iteration: int, beliefs: np.ndarray) -> bool:
        if iteration in (0, *ITERATIONS):
            steps[iteration] = np.array(beliefs[shown])
        return False

    refine(np.ascontiguousarray(image[..., ::-1]), scores=scores, **{**(segmenter.crf or {}),
           "iterations": max(ITERATIONS), "callback": keep})
    logs = [np.log(np.maximum(beliefs, 1e-8)) for beliefs in steps.values()]
    low, high = min(float(log.min()) for log in logs), max(float(log.max()) for log in logs)
    upper = [image, *(_shades((log - low) / max(high - low, 1e-6)) for log in logs)]
    lower = [colorize(truth), *(_shades(beliefs) for beliefs in steps.values())]
    stages = "the net" + "".join(f", iteration {i}" for i in ITERATIONS)
    name = segmenter.names[shown]
    return grid([upper, lower], [f"{METHODS[model]}, {name}: image; log beliefs behind {stages}",
                                 f"ground truth; beliefs behind {stages}"]), []


def fig4(bench: Bench) -> tuple[np.ndarray | None, list[str]]:
    """DeepLab and DeepLab-MSc on the same images."""
    return _compared(bench, [("deeplab", "plain"), ("deeplab-msc", "plain")])


def fig7(bench: Bench) -> tuple[np.ndarray | None, list[str]]:
    """One model before and after its CRF."""
    model = next(iter(bench.available(PREFERRED)), PREFERRED[0])
    return _compared(bench, [(model, "plain"), (model, "crf")])


def _compared(bench: Bench, methods: Sequence[tuple[str, str]]) -> tuple[np.ndarray | None, list[str]]:
    chosen = _chosen(bench)
    if not chosen:
        return None, ["not drawn: there are no images"]
    rows: list[list[np.ndarray | None]] = [[image for _, image, _ in chosen],
                                           [colorize(truth) for _, _, truth in chosen]]
    names, notes = ["image", "ground truth"], []
    for model, kind in methods:
        rows.append(_maps(bench, model, kind, chosen))
        names.append(method_name(model, kind))
        if all(picture is None for picture in rows[-1]):
            notes.append(f"{names[-1]} is left grey: it has no weights here")
    return grid(rows, names), notes


def fig6(bench: Bench) -> tuple[np.ndarray | None, list[str]]:
    """Predictions of other methods, given as folders of index PNGs, above ours with the CRF."""
    chosen = _chosen(bench)
    if not chosen:
        return None, ["not drawn: there are no images"]
    rows: list[list[np.ndarray | None]] = [[image for _, image, _ in chosen],
                                           [colorize(truth) for _, _, truth in chosen]]
    names, notes = ["image", "ground truth"], []
    for name in ("FCN-8s", "TTI-Zoomout-16", *sorted(set(bench.others) - {"FCN-8s", "TTI-Zoomout-16"})):
        folder = bench.others.get(name)
        if folder is None:
            notes.append(f"{name}: its authors' predictions are not here; give a folder of index PNGs with "
                         f"--predictions {name}=FOLDER")
            continue
        maps: list[np.ndarray | None] = []
        for sample, _, _ in chosen:
            try:
                maps.append(colorize(read_labels(folder / f"{sample.id}.png")))
            except AtrousCaffeError as error:
                notes.append(f"{name}: {error}")
                maps.append(None)
        rows.append(maps)
        names.append(name)
    model = next(iter(bench.available(PREFERRED)), PREFERRED[0])
    rows.append(_maps(bench, model, "crf", chosen))
    names.append(f"{method_name(model, 'crf')} (ours)")
    if all(picture is None for picture in rows[-1]):
        notes.append(f"{names[-1]} is left grey: it has no weights here")
    return grid(rows, names), notes
