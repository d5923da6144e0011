"""The report of an evaluation as one HTML file that needs no network, and its figures as CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.data.image import read_image
from atrouscaffe.data.overlay import encode_picture
from atrouscaffe.data.palette import color_map, colorize, read_labels
from atrouscaffe.data.voc import Sample
from atrouscaffe.pipeline.chart import Panel, Series, draw

__all__ = ["FIGURES", "confusion_svg", "html_report", "kinds_of", "name_of", "picture_tag", "to_csv", "trimap_svg"]

FIGURES = (("mean_iou", "mean IoU"), ("mean_iou_devkit", "mean IoU, devkit's convention"),
           ("mean_iou_present", "mean IoU over classes present"), ("pixel_accuracy", "pixel accuracy"),
           ("mean_accuracy", "mean accuracy"), ("frequency_weighted_iou", "frequency weighted IoU"))
SHOWN = 6
"""Worst and best images that the report shows, each."""
THUMB_PX = 190
STYLE = """body{font:14px/1.45 sans-serif;color:#24292d;max-width:1080px;margin:24px auto;padding:0 16px}
h1{font-size:22px}h2{font-size:17px;margin-top:32px;border-bottom:1px solid #d5dadd}
table{border-collapse:collapse;margin:8px 0}td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #eceff1}
td:first-child,th:first-child{text-align:left}.warn{background:#fff3cd;padding:6px 10px;border:1px solid #e6cf8b}
.bar{display:inline-block;height:9px;background:#1f5fa8;margin-left:8px;vertical-align:middle}
.shots td,.shots th,.about td,.about th{text-align:left;vertical-align:top}
.shots td{padding:3px}.shots img{display:block}
td:first-child{white-space:nowrap}.about td:last-child{overflow-wrap:anywhere}
.note{color:#5c6770}svg{max-width:100%;height:auto}"""


def name_of(figures: Mapping[str, Any]) -> str:
    """Return a model's name for people."""
    return str(figures.get("title") or figures["model"])


def kinds_of(figures: Mapping[str, Any]) -> list[str]:
    """Return the kinds of predictions that the figures of a model hold."""
    return [kind for kind in ("plain", "crf") if kind in figures]


def to_csv(models: Sequence[Mapping[str, Any]]) -> str:
    """Return all figures as CSV, one a line: model, kind, figure, of what, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "kind", "figure", "of", "value"])
    for figures in models:
        for kind in kinds_of(figures):
            found, head = figures[kind], [figures["model"], kind]
            for key, _ in FIGURES:
                writer.writerow([*head, key, "", _plain(found[key])])
            writer.writerow([*head, "pixels", "", found["pixels"]])
            for key in ("iou", "accuracy"):
                for name, value in found[key].items():
                    writer.writerow([*head, key, name, _plain(value)])
            for definition, curves in found["curves"].items():
                for key, values in curves.items():
                    for width, value in enumerate(values, 1):
                        writer.writerow([*head, f"trimap_{definition}_{key}", width, _plain(value)])
        for ident, scores in figures["per_image"].items():
            for kind, one in scores.items():
                for key, value in one.items():
                    writer.writerow([figures["model"], kind, f"image_{key}", ident, _plain(value)])
    return out.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _words(value: Any) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, Mapping) else str(value)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "figures") -> str:
    """Return a table; cells are HTML already."""
    lines = [f'<table class="{kind}"><tr>' + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def confusion_svg(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return a picture of a confusion matrix: rows are true classes, shaded by the share of each row."""
    matrix = np.asarray(counts, np.float64)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    cell, left, top, n = 26, 110, 100, len(names)
    size = (left + n * cell + 10, top + n * cell + 30)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" viewBox="0 0 {size[0]} '
           f'{size[1]}" font-family="sans-serif" font-size="10" fill="#24292d">']
    for i, name in enumerate(names):
        out.append(f'<text x="{left - 6}" y="{top + i * cell + 17}" text-anchor="end">{escape(name)}</text>')
        x, y = left + i * cell + 16, top - 6
        out.append(f'<text transform="translate({x},{y}) rotate(-60)">{escape(name)}</text>')
        for j, other in enumerate(names):
            share = shares[i, j]
            shade = [round(255 - (255 - dark) * share ** 0.5) for dark in (31, 95, 168)]
            colour = "#{:02x}{:02x}{:02x}".format(*shade)
            place = f'x="{left + j * cell}" y="{top + i * cell}" width="{cell - 1}" height="{cell - 1}"'
            told = f"{escape(name)} taken for {escape(other)}: {100 * share:.2f} % ({int(matrix[i, j])} pixels)"
            out.append(f'<rect {place} fill="{colour}"><title>{told}</title></rect>')
            if share >= 0.005:
                ink = "white" if share > 0.3 else "#24292d"
                out.append(f'<text x="{left + j * cell + cell / 2 - 0.5}" y="{top + i * cell + 16}" fill="{ink}" '
                           f'text-anchor="middle" font-size="9">{100 * share:.0f}</text>')
    out.append(f'<text x="{left}" y="{size[1] - 8}">rows: true class, columns: predicted; per cent of the row</text>')
    return "\n".join([*out, "</svg>"])


def trimap_svg(models: Sequence[Mapping[str, Any]], stored: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
               definition: str = "void") -> str:
    """Return pixel accuracy and mean IoU against the width of the band, with published curves drawn faint.

    Parameters
    ----------
    models : sequence of figures
    stored : mapping of figure to mapping of method to values, optional
        The paper's curves, from 1 pixel.
    definition : {"void", "distance"}
    """
    panels = []
    for key, title in (("pixel_accuracy", "pixel accuracy in the band, %"), ("mean_iou", "mean IoU in the band, %")):
        series = [Series(f"{name.removeprefix('DeepLab-')} (paper)", range(1, len(values) + 1), values, True)
                  for name, values in (stored or {}).get(key, {}).items()]
        for number, figures in enumerate(models, 1):
            for kind in kinds_of(figures):
                values = [float("nan") if v is None else v for v in figures[kind]["curves"][definition][key]]
                name = f"{number} {name_of(figures)[:11]} {kind}" if len(models) > 1 else f"ours, {kind}"
                series.append(Series(name, range(1, len(values) + 1), values))
        panels.append(Panel(title, series))
    how = "the authors' dilated void" if definition == "void" else "distance from any border"
    return draw(f"Trimap, by {how}", panels, x_name="width of the band, pixels")


def picture_tag(picture: np.ndarray, suffix: str = ".png", limit: int = THUMB_PX) -> str:
    """Return a BGR picture inside the page, with sides of at most `limit` pixels."""
    import cv2

    height, width = picture.shape[:2]
    if max(height, width) > limit:
        size = (max(1, round(width * limit / max(height, width))), max(1, round(height * limit / max(height, width))))
        how = cv2.INTER_NEAREST if suffix == ".png" else cv2.INTER_AREA
        picture = cv2.resize(picture, size, interpolation=how)
    data = base64.b64encode(encode_picture(np.ascontiguousarray(picture), suffix)).decode()
    kind = "png" if suffix == ".png" else "jpeg"
    return f'<img src="data:image/{kind};base64,{data}" alt="">'


def _shots(figures: Mapping[str, Any], samples: Mapping[str, Sample], labels: Mapping[str, Path], kind: str) -> str:
    """Return the worst and the best images beside their truth."""
    order = sorted((one[kind]["mean_iou"], ident) for ident, one in figures["per_image"].items()
                   if one[kind]["mean_iou"] is not None)
    parts = []
    chosen = {"Worst": order[:SHOWN], "Best": order[::-1][:SHOWN]}
    for title, rows in chosen.items():
        lines = [f"<h3>{title} images by mean IoU</h3>", '<table class="shots"><tr><th>image</th><th>photograph</th>'
                 "<th>ground truth</th>" + "".join(f"<th>{name}</th>" for name in labels) + "</tr>"]
        for value, ident in rows:
            sample = samples[ident]
            cells = [f"{escape(ident)}<br>mean IoU {value:.1f}<br>accuracy "
                     f"{_cell(figures['per_image'][ident][kind]['pixel_accuracy'])}",
                     picture_tag(read_image(sample.image), ".jpg")]
            maps = [sample.label, *(folder / f"{ident}.png" for folder in labels.values())]
            cells += [picture_tag(colorize(read_labels(path))) for path in maps if path is not None]
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        parts += [*lines, "</table>"]
    return "\n".join(parts)


def _per_class(models: Sequence[Mapping[str, Any]]) -> str:
    columns = [(figures, kind) for figures in models for kind in kinds_of(figures)]
    head = ["class"] + [f"{escape(name_of(figures))}<br>{kind}" for figures, kind in columns]
    colours = color_map()
    rows = []
    for i, name in enumerate(models[0]["class_order"]):
        square = "#{:02x}{:02x}{:02x}".format(*colours[i])
        row = [f'<span style="display:inline-block;width:11px;height:11px;background:{square}"></span> {escape(name)}']
        for figures, kind in columns:
            value = figures[kind]["iou"][name]
            absent = name in figures[kind]["absent"]
            bar = f'<span class="bar" style="width:{0 if value is None else value * 0.6:.0f}px"></span>'
            row.append(("absent" if absent and value is None else _cell(value) + (" (absent)" if absent else "")) + bar)
        rows.append(row)
    return _table(head, rows)


def html_report(title: str, models: Sequence[Mapping[str, Any]], samples: Sequence[Sample],
                folders: Sequence[Mapping[str, Path]], stored: Mapping[str, Any] | None = None) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    title : str
    models : sequence of dict
        Figures of each model: `Report.as_dict` with ``model``, and what else describes the run.
    samples : sequence of Sample
    folders : sequence of mapping of str to path
        For each model the folder of label maps of each kind.
    stored : mapping, optional
        Published trimap curves.
    """
    known = {sample.id: sample for sample in samples}
    columns = [(figures, kind) for figures in models for kind in kinds_of(figures)]
    body = [f"<h1>{escape(title)}</h1>"]
    body += [f'<p class="warn">{escape(text)}</p>' for figures in models for text in figures.get("warnings", ())]
    about = []
    for figures in models:
        about += [[escape(name_of(figures)) if key == "model" else "", escape(key.replace("_", " ")),
                   escape(_words(figures[key]))]
                  for key in ("model", "weights", "preprocessing", "crf_parameters", "scales", "list", "labels",
                              "images", "seconds") if figures.get(key) is not None]
    body += ["<h2>What was run</h2>", _table(["", "setting", "value"], about, "about"), "<h2>Figures, per cent</h2>",
             _table([""] + [f"{escape(name_of(figures))}<br>{kind}" for figures, kind in columns],
                    [[label] + [_cell(figures[kind][key]) for figures, kind in columns] for key, label in FIGURES]),
             '<p class="note">One confusion matrix over all images; void pixels left out. A class that neither truth '
             "nor prediction has counts 0 in the mean IoU, as in the authors' program; by the devkit's convention "
             "there is no mean then.</p>", "<h2>IoU of each class</h2>", _per_class(models)]
    for figures, folder in zip(models, folders):
        kinds = kinds_of(figures)
        for kind in kinds:
            body += [f"<h2>Confusion: {escape(name_of(figures))}, {kind}</h2>",
                     confusion_svg(figures[kind]["confusion"], figures["class_order"])]
        body += [f"<h2>Images: {escape(name_of(figures))}</h2>", _shots(figures, known, folder, kinds[-1])]
    if columns[0][0][columns[0][1]]["curves"]:
        body += ["<h2>Along object borders</h2>", trimap_svg(models, stored), trimap_svg(models, None, "distance")]
    for figures in models:
        if figures.get("ledger"):
            body += ["<h2>Ledger</h2>", _ledger(figures["ledger"])]
        if figures["failed"]:
            body += [f"<h2>Left out: {len(figures['failed'])} images</h2>",
                     "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in figures["failed"]) + "</ul>"]
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n")


def _ledger(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for row in rows:
        effect = row.get("effect")
        cells.append([escape(row["leak"]), escape(row["used"]), escape(row["other"]),
                      "–" if effect is None else f"{effect:+.2f}", escape(row.get("note", ""))])
    return _table(["leak", "used here", "the other way", "mean IoU, points", ""], cells)
