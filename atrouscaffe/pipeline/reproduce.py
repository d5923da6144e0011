"""The tables, curves and speeds of the DeepLab v1 paper, ours beside the published ones.

A table is data first (`Table`); the command prints it and writes it as JSON. Pictures are in
`atrouscaffe.pipeline.figures`.
"""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from atrouscaffe.data.voc import VOC_CLASSES
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.pipeline import figures as pictures
from atrouscaffe.pipeline.bench import Bench
from atrouscaffe.pipeline.paper import METHODS, TABLE2, method_name, paper_numbers
from atrouscaffe.pipeline.report import trimap_svg
from atrouscaffe.pipeline.speed import fit_side, forward_seconds, geometry, training_seconds
from atrouscaffe.runtime.threads import num_threads

__all__ = ["TARGETS", "Table", "render", "reproduce"]

PUBLISHED = "published"
FIG5_WIDTHS = (1, 5, 10, 20, 40)
CURVES = {"DeepLab": ("deeplab", "plain"), "DeepLab-MSc": ("deeplab-msc", "plain"),
          "DeepLab-CRF": ("deeplab", "crf"), "DeepLab-MSc-CRF": ("deeplab-msc", "crf")}


@dataclass
class Table:
    """A table: cells are text or numbers, None where there is no value; what was written beside it."""

    title: str
    head: Sequence[str]
    rows: list[list[Any]]
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"title": self.title, "head": list(self.head), "rows": self.rows, "notes": self.notes,
                "files": self.files}


def _less(ours: float | None, paper: float | None) -> float | None:
    return None if ours is None or paper is None else round(ours - paper, 3)


def table1(bench: Bench) -> list[Table]:
    """Table 1: mean IoU on val, ours beside the paper's; on test, as published."""
    numbers = paper_numbers()
    rows: list[list[Any]] = []
    for model in ("deeplab", "deeplab-msc", "deeplab-7x7", "deeplab-largefov", "deeplab-msc-largefov"):
        for kind in ("plain", "crf"):
            name = method_name(model, kind)
            paper, ours = numbers["table1a_val_mean_iou"].get(name), bench.mean_iou(model, kind)
            rows.append([name, paper, ours, _less(ours, paper)])
    own = bench.mean_iou("deeplab-4x4", "crf")
    paper = next(row["val_mean_iou_after_crf"] for row in numbers["table2"] if row["method"] == "DeepLab-CRF-4x4")
    rows.append(["DeepLab-CRF-4x4 (Table 2)", paper, own, _less(own, paper)])
    first = Table(f"Table 1(a): mean IoU on {bench.list_name}, per cent",
                  ("method", "paper (val)", "ours", "difference"), rows)
    if bench.list_name != "val":
        first.notes.append(f"the paper's figures are of VOC's val (1449 images), ours of {bench.list_name}")
    second = Table("Table 1(b): mean IoU on test, per cent", ("method", "paper (test)", "ours"),
                   [[f"{name} ({PUBLISHED})", value, None]
                    for name, value in numbers["table1b_test_mean_iou"].items()],
                   ["the ground truth of test is kept by VOC's server: make an archive with atrouscaffe submit and "
                    "send it there"])
    return [first, second]


def table2(bench: Bench, *, train_batch: int = 1, train_size: int | None = None, train: bool = True) -> list[Table]:
    """Table 2: field of view, parameters, mean IoU after the CRF, training speed on this device."""
    rows = []
    for entry in paper_numbers()["table2"]:
        model = TABLE2[entry["method"]]
        ours = bench.mean_iou(model, "crf")
        speed, ours_is = None, geometry(model)
        if train:
            bench.say(f"training speed of {METHODS[model]}")
            seconds, crop = training_seconds(model, train_batch, train_size, bench.device,
                                             precision=bench.precision)
            speed = round(1 / seconds, 4)
        rows.append([entry["method"], f"{ours_is.kernel}x{ours_is.kernel}", ours_is.hole,
                     entry["receptive_field_px"], ours_is.field_px, entry["parameters_millions"],
                     round(ours_is.parameters / 1e6, 1), entry["val_mean_iou_after_crf"], ours,
                     _less(ours, entry["val_mean_iou_after_crf"]), entry["training_images_per_s"], speed])
    table = Table("Table 2: effect of the field of view", (
        "method", "kernel", "hole", "field, paper", "ours", "Mparam, paper", "ours", "IoU, paper (val)", "ours",
        "difference", "train img/s, paper (Titan)", "ours"), rows)
    if train:
        table.notes.append(f"training: batches of {train_batch}, crops of {crop} pixels, forward, backward and update "
                           f"on {_device(bench.device)}, random images")
        first, last = rows[0][-1], rows[-1][-1]
        paper = paper_numbers()["table2_text"]["speedup_largefov_over_7x7"]
        table.notes.append(f"LargeFOV trains {last / first:.2f} times as fast as 7x7; in the paper {paper:.2f} times")
    return [table]


def _device(name: str) -> str:
    return f"{name} ({platform.machine()}, {num_threads()} threads)" if name == "cpu" else name


def table3(bench: Bench) -> list[Table]:
    """Table 3: IoU of each class on test as published, beside ours on the list at hand."""
    published = paper_numbers()["table3_test_iou"]
    models = bench.available(["deeplab", "deeplab-msc", "deeplab-7x7", "deeplab-largefov", "deeplab-msc-largefov"])
    head = ["class", *(f"{name} ({PUBLISHED}, test)" for name in published),
            *(f"{method_name(model, 'crf')} (ours, {bench.list_name})" for model in models)]
    found = [bench.figures(model) or {} for model in models]
    rows = [[name, *(entry["per_class"][name] for entry in published.values()),
             *(figures["crf"]["iou"][name] for figures in found)] for name in VOC_CLASSES]
    rows.append(["mean", *(entry["mean"] for entry in published.values()),
                 *(figures["crf"]["mean_iou"] for figures in found)])
    return [Table("Table 3: IoU of each class, per cent", head, rows,
                  ["published columns are of VOC's test set; ours can be had there from VOC's server only (atrouscaffe "
                   f"submit), and are of {bench.list_name} here"])]


def fig5(bench: Bench) -> list[Table]:
    """Fig. 5: accuracy and mean IoU in a band along object borders, over the stored curves."""
    stored = paper_numbers()["figure5_trimap_val"]["curves"]
    models = [dict(figures, title=METHODS[model]) for model in ("deeplab", "deeplab-msc")
              if (figures := bench.figures(model)) is not None]
    path = bench.out / "fig5.svg"
    _write(path, trimap_svg(models, {key: stored[key] for key in ("pixel_accuracy", "mean_iou")}))
    tables = []
    lines: list[list[Any]] = [["method", "figure", "width_px", "paper", "ours"]]
    for key, title in (("mean_iou", "mean IoU"), ("pixel_accuracy", "pixel accuracy")):
        rows = []
        for name, (model, kind) in CURVES.items():
            figures = bench.figures(model)
            curve = figures[kind]["curves"]["void"][key] if figures else [None] * len(stored[key][name])
            lines += [[name, key, width, a, b] for width, (a, b) in enumerate(zip(stored[key][name], curve), 1)]
            for width in FIG5_WIDTHS:
                paper, ours = stored[key][name][width - 1], curve[width - 1]
                rows.append([name, width, paper, ours, _less(ours, paper)])
        tables.append(Table(f"Fig. 5: {title} in the trimap, per cent",
                            ("method", "width, px", "paper (val)", "ours", "difference"), rows))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    _write(bench.out / "fig5.csv", text.getvalue())
    tables[-1].files += [str(path), str(bench.out / "fig5.csv")]
    return tables


def speed(bench: Bench) -> list[Table]:
    """Speeds that the paper gives in its text: the net at test, the CRF, on this device."""
    paper = paper_numbers()["speed"]
    rows: list[list[Any]] = []
    side = bench.input_size or paper["input_px"]
    for model in ("deeplab", "deeplab-largefov"):
        bench.say(f"speed of {METHODS[model]}")
        seconds, fitted = forward_seconds(model, fit_side(side, 514 if model == "deeplab" else 513), bench.device,
                                          precision=bench.precision)
        rows.append([f"{METHODS[model]}, one image of {fitted}x{fitted}, images/s",
                     paper["test_dcnn_fps"] if model == "deeplab" else None, round(1 / seconds, 3)])
    rows.append(["CRF, 10 iterations, s an image", paper["crf_seconds_per_image"], _crf_seconds(bench)])
    return [Table("Speed", ("what", "paper (Titan; CRF on a CPU core)", f"ours ({_device(bench.device)})"), rows,
                  ["weights are random: the net's time does not depend on them",
                   "the CRF's time is of DeepLab-LargeFOV's parameters on the first images of the list, with scores "
                   "that follow the ground truth"])]


def _crf_seconds(bench: Bench, images: int = 3) -> float | None:
    import time

    import numpy as np

    from atrouscaffe.crf.densecrf import refine
    from atrouscaffe.data.image import read_image
    from atrouscaffe.data.palette import read_labels

    times: list[float] = []
    for sample in bench.samples()[:images]:
        if sample.label is None:
            continue
        image, truth = read_image(sample.image), read_labels(sample.label)
        scores = np.random.default_rng(0).normal(0, 1, (21, *truth.shape)).astype(np.float32)
        np.put_along_axis(scores, np.where(truth < 21, truth, 0)[None].astype(np.int64), 6, 0)
        for _ in range(2 if not times else 1):  # the first call compiles
            begin = time.perf_counter()
            refine(np.ascontiguousarray(image[..., ::-1]), scores=scores, preset="deeplab-largefov")
            seconds = time.perf_counter() - begin
        times.append(seconds)
    return round(float(np.median(times)), 3) if times else None


def _write(path: Any, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())


def _picture(name: str, draw: Callable[[Bench], tuple[Any, list[str]]], title: str) -> Callable[[Bench], list[Table]]:
    def make(bench: Bench) -> list[Table]:
        picture, notes = draw(bench)
        table = Table(title, ("picture",), [], notes)
        if picture is not None:
            from atrouscaffe.data.overlay import encode_picture

            path = bench.out / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(encode_picture(picture))
            table.rows.append([str(path)])
            table.files.append(str(path))
        return [table]

    return make


TARGETS: dict[str, Callable[..., list[Table]]] = {
    "table1": table1, "table2": table2, "table3": table3,
    "fig2": _picture("fig2", pictures.fig2, "Fig. 2: scores and beliefs by iteration of the CRF"),
    "fig4": _picture("fig4", pictures.fig4, "Fig. 4: DeepLab and DeepLab-MSc"),
    "fig5": fig5,
    "fig6": _picture("fig6", pictures.fig6, "Fig. 6: other methods and DeepLab-CRF"),
    "fig7": _picture("fig7", pictures.fig7, "Fig. 7: before and after the CRF"),
    "speed": speed,
}
"""What can be reproduced."""


def reproduce(target: str, bench: Bench, **options: Any) -> list[Table]:
    """Return the tables of one target; figures are written into the bench's folder.

    Parameters
    ----------
    target : str
        One of `TARGETS`.
    bench : Bench
    **options
        Of `table2`.
    """
    bench.out.mkdir(parents=True, exist_ok=True)
    return TARGETS[target](bench, **options)


def render(table: Table) -> str:
    """Return a table as text."""
    def text(cell: Any) -> str:
        if cell is None:
            return "-"
        return f"{cell:.2f}" if isinstance(cell, float) else str(cell)

    cells = [[text(cell) for cell in row] for row in table.rows]
    head = list(table.head)
    if len(head) > 8 and max(len(word) for word in head) > 20:  # too wide: number the columns, name them below
        legend = [f"  [{i}] {name}" for i, name in enumerate(head[1:], 1)]
        head = [head[0], *(f"[{i}]" for i in range(1, len(head)))]
    else:
        legend = []
    widths = [max([len(row[i]) for row in cells] + [len(head[i])]) for i in range(len(head))]
    lines = [table.title]
    for row in [head, *cells] if cells else []:
        lines.append("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
    lines += legend
    lines += [f"note: {note}" for note in table.notes]
    lines += [f"written: {name}" for name in table.files]
    return "\n".join(lines)
