"""``atrouscaffe evaluate``: score models on a list of images."""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

from atrouscaffe.cli.options import add_model_options, make_segmenter, pairs

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Run models over a list of images with ground truth and print mean IoU, pixel accuracy, the IoU of each class, "
        "and the scores in bands along object borders. With --crf, without and with the CRF. With --out, label maps, "
        "figures (JSON, CSV) and an HTML report are kept in a folder, and a run that was stopped goes on from there.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model_options(parser)
    more = parser.add_argument_group("more models, other sources")
    more.add_argument("--also", action="append", default=[], metavar="NET=WEIGHTS",
                      help="score this model too, with the same options; may be repeated")
    more.add_argument("--predictions", action="append", default=[], metavar="[NAME=]FOLDER",
                      help="score another program's index PNGs (ID.png) instead of a model; may be repeated")
    more.add_argument("--scores", metavar="FOLDER", help="take saved scores (ID_blob_0.mat of MatWrite, ID.npz), "
                                                         "not a net's; --crf refines them")
    more.add_argument("--scales", metavar="S,S,...", default="1", help="average over resized images (1)")
    more.add_argument("--flip", action="store_true", help="average with the mirrored image")
    add_data_options(parser)
    out = parser.add_argument_group("results")
    out.add_argument("--out", metavar="DIR", help="keep label maps, evaluation.json and .csv, report.html here")
    out.add_argument("--fresh", action="store_true", help="with --out: forget what is there and run all images")
    out.add_argument("--save-scores", choices=("npz", "mat"), help="with --out: keep scores, too")
    out.add_argument("--trimap", choices=("distance", "void", "none"), default="distance",
                     help="bands to print: by distance from any border, by the authors' dilated void; none counts none "
                          "(distance)")
    out.add_argument("--json", metavar="FILE", help="write all figures as JSON; - is the standard output")
    out.add_argument("--ledger", nargs="?", const="list", choices=("list", "measure"), metavar="measure",
                     help="list the choices by which figures are lost; 'measure' also runs the other way of each")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which images."""
    data = parser.add_argument_group("data")
    data.add_argument("--voc", metavar="ROOT", help="folder with JPEGImages and SegmentationClass (VOC 2012), or "
                                                    "the one that the list's paths begin at")
    data.add_argument("--list", metavar="NAME", default="val",
                      help="list in ImageSets/Segmentation, or a file: ids, or DeepLab's image and label paths (val)")
    data.add_argument("--labels", metavar="FOLDER", help="folder of label maps below ROOT, such as "
                                                         "SegmentationClassAug (else what the list says)")
    data.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    data.add_argument("--no-check", action="store_true", help="do not look at every file before the run begins")


def samples_of(args: argparse.Namespace, classes: int = 21, with_labels: bool = True) -> list[Any]:
    """Return the images that the options name; problems are told now, on stderr.

    Raises
    ------
    AtrousCaffeError
        No such list, or no image of it can be used.
    """
    from atrouscaffe.data.dataset import check_samples, find_samples
    from atrouscaffe.errors import ArgumentError, DataError

    samples = find_samples(args.voc, args.list, args.labels, with_labels=with_labels)
    if args.limit is not None:
        if args.limit < 1:
            raise ArgumentError(f"--limit: expected at least 1, got {args.limit}")
        samples = samples[:args.limit]
    problems = [] if args.no_check else check_samples(samples, classes)
    for problem in problems[:10]:
        print(f"atrouscaffe: {problem.id} will be left out: {problem.why}", file=sys.stderr)
    if len(problems) > 10:
        print(f"atrouscaffe: and {len(problems) - 10} more images will be left out", file=sys.stderr)
    if len(problems) == len(samples):
        raise DataError(f"none of the list's {len(samples)} images can be used; the first: {problems[0].why}",
                        str(args.list))
    return samples


def run(args: argparse.Namespace) -> int:
    """Evaluate; 1 where images had to be left out."""
    from atrouscaffe.errors import ArgumentError

    if (args.fresh or args.save_scores) and not args.out:
        raise ArgumentError("--fresh and --save-scores are about the folder of --out; name one")
    if args.predictions and (args.model or args.scores or args.also):
        raise ArgumentError("--predictions takes the place of a model; give one of both")
    if args.ledger and (args.predictions or args.scores):
        raise ArgumentError("--ledger is about how a net is run; it does not go with --predictions or --scores")
    samples = samples_of(args)
    found = _predictions(args, samples) if args.predictions else _models(args, samples)
    models = [figures for figures, _ in found]
    _write(args, found, samples)
    if args.json == "-":
        print(json.dumps(models[0] if len(models) == 1 else {"models": models}, indent=1))
    else:
        for figures in models:
            print(f"{figures['model']}\n{table(figures, args.trimap)}\n")
    return 1 if any(figures["failed"] for figures in models) else 0


def _jobs(args: argparse.Namespace) -> list[argparse.Namespace]:
    """Return the options of each model."""
    jobs = [args]
    for word in args.also:  # one at a time: the same net may come with several weights
        job = copy.copy(args)
        [(job.model, job.weights)] = pairs([word], "--also").items()
        jobs.append(job)
    return jobs


def _folder(args: argparse.Namespace, name: str, several: bool) -> Path | None:
    if args.out is None:
        return None
    return Path(args.out) / name.replace("/", "_") if several else Path(args.out)


def _show(progress: Any, what: str) -> Any:
    """Return a callback that shows images done, time left and the running mean IoU."""
    def show(done: int, report: Any) -> None:
        running = [f"{100 * evaluation.matrix.mean_iou('skip'):.2f} {kind}"
                   for kind, evaluation in report.evaluations.items()]
        progress.update(done, f"{what}mean IoU {', '.join(running)}")

    return show


def _source(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return where scores come from, and what is told about it."""
    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.pipeline.sources import NetSource, SavedSource

    if args.scores:
        params = pairs(args.crf_set, "--crf-set", number=True)
        crf = {"preset": args.crf if isinstance(args.crf, str) else "paper"} | params if args.crf else None
        return SavedSource(args.scores, crf=crf), {"model": f"scores in {args.scores}", "weights": None}
    segmenter = make_segmenter(args)
    try:
        scales = tuple(float(part) for part in args.scales.split(","))
    except ValueError:
        raise ArgumentError(f"--scales: expected numbers with commas, got {args.scales!r}") from None
    going_in = (f"{segmenter.preprocessing}: mean {segmenter.mean.ravel().tolist()}, scale {segmenter.scale:g}, "
                f"{segmenter.channel_order}")
    model = str(args.model or segmenter.model.name)
    about: dict[str, Any] = {"model": model, "title": segmenter.model.title if segmenter.model else Path(model).stem,
                             "weights": args.weights, "preprocessing": going_in}
    if scales != (1.0,) or args.flip:
        about["scales"] = f"{', '.join(f'{s:g}' for s in scales)}{' and mirrored' if args.flip else ''}"
    return NetSource(segmenter, scales, args.flip), about


def _models(args: argparse.Namespace, samples: list[Any]) -> list[tuple[dict[str, Any], dict[str, Path]]]:
    """Evaluate each model; return its figures and the folders of its label maps."""
    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.pipeline.evaluate import evaluate, run_settings
    from atrouscaffe.pipeline.ledger import ledger
    from atrouscaffe.pipeline.store import RunStore

    jobs = _jobs(args)
    found: list[tuple[dict[str, Any], dict[str, Path]]] = []
    for job in jobs:
        source, about = _source(job)
        titles = [figures["title"] for figures, _ in found if "title" in figures]
        if about.get("title") in titles:
            about["title"] += f" ({Path(str(about['weights'])).name})"
        folder = _folder(args, f"{len(found) + 1}-{Path(about['model']).stem}" if len(jobs) > 1 else "", len(jobs) > 1)
        store = None
        if folder is not None:
            store = RunStore(folder, run_settings(source), scores=args.save_scores, fresh=args.fresh)
        progress = Progress(len(samples))
        what = f"{about['model']}: " if len(jobs) > 1 else ""
        report = evaluate(source, samples, trimap=args.trimap != "none", store=store, progress=_show(progress, what))
        progress.close()
        figures = about | {"crf_parameters": source.crf, "list": args.list, "labels": args.labels or "as the list says",
                           "warnings": _warnings(job, args.list)} | report.as_dict()
        if args.ledger:
            figures["ledger"] = ledger(source.segmenter, samples, measure=args.ledger == "measure",
                                       say=lambda text: print(text, file=sys.stderr))
        for text in figures["warnings"]:
            print(f"atrouscaffe: warning: {text}", file=sys.stderr)
        found.append((figures, {kind: store.folder / kind for kind in report.evaluations} if store else {}))
    return found


def _warnings(args: argparse.Namespace, name: str) -> list[str]:
    from atrouscaffe.pipeline.paper import seen_in_training

    text = seen_in_training(args.weights, name)
    return [text] if text else []


def _predictions(args: argparse.Namespace, samples: list[Any]) -> list[tuple[dict[str, Any], dict[str, Path]]]:
    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.data.voc import VOC_CLASSES
    from atrouscaffe.errors import FileMissingError
    from atrouscaffe.pipeline.evaluate import evaluate_predictions

    found = []
    for text in args.predictions:
        name, equals, folder = text.partition("=")
        folder = Path(folder if equals else name)
        if not folder.is_dir():
            raise FileMissingError("--predictions: expected a folder of index PNGs", str(folder))
        progress = Progress(len(samples))
        report = evaluate_predictions(folder, samples, VOC_CLASSES, trimap=args.trimap != "none",
                                      progress=_show(progress, ""))
        progress.close()
        figures = {"model": name if equals else folder.name, "weights": None, "predictions": str(folder),
                   "list": args.list} | report.as_dict()
        found.append((figures, {"plain": folder}))
    return found


def _write(args: argparse.Namespace, found: list[tuple[dict[str, Any], dict[str, Path]]], samples: list[Any]) -> None:
    from atrouscaffe.formats.atomic import atomic_write
    from atrouscaffe.pipeline.report import html_report, name_of, to_csv

    models = [figures for figures, _ in found]
    text = json.dumps(models[0] if len(models) == 1 else {"models": models}, indent=1)
    files = {}
    if args.json and args.json != "-":
        files[Path(args.json)] = text
    if args.out:
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        files[out / "evaluation.json"] = text
        files[out / "evaluation.csv"] = to_csv(models)
        title = f"{', '.join(name_of(figures) for figures in models)} on {args.list}"
        files[out / "report.html"] = html_report(title, models, samples, [folder for _, folder in found])
    for path, content in files.items():
        with atomic_write(path) as file:
            file.write(content.encode())


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def table(figures: dict[str, Any], trimap: str = "distance") -> str:
    """Return the figures of one model as text."""
    from atrouscaffe.pipeline.report import FIGURES, kinds_of
    from atrouscaffe.pipeline.scoring import DISTANCE_WIDTHS

    def row(label: str, cells: list[str]) -> str:
        return f"{label:<32}" + "".join(f"{cell:>16}" for cell in cells)

    kinds = kinds_of(figures)
    columns = [figures[kind] for kind in kinds]
    lines = [row(f"{figures['images']} images", kinds)]
    differ = any(column["mean_iou_devkit"] != column["mean_iou"] for column in columns)
    lines += [row(label, [_cell(column[key]) for column in columns]) for key, label in FIGURES
              if key != "mean_iou_devkit" or differ]
    if differ:
        lines.append("(a class that is nowhere counts 0 in the mean IoU; the VOC devkit gives no mean then)")
    if columns[0]["absent"]:
        lines.append(f"(not in the ground truth: {', '.join(columns[0]['absent'])})")
    lines += ["", row("IoU", [""] * len(kinds))]
    lines += [row(f"  {name}", [_cell(column["iou"][name]) for column in columns]) for name in columns[0]["iou"]]
    if trimap in columns[0]["curves"]:
        lines += ["", row(f"border band by {trimap}, pixels", ["IoU / accuracy"] * len(kinds))]
        for width in (*DISTANCE_WIDTHS, 40):
            pairs_of = [[column["curves"][trimap][key][width - 1] for key in ("mean_iou", "pixel_accuracy")]
                        for column in columns]
            lines.append(row(f"  {width}", [f"{_cell(iou)} / {_cell(accuracy)}" for iou, accuracy in pairs_of]))
    for entry in figures.get("ledger", []):
        effect = "" if entry["effect"] is None else f"; the other way: {entry['effect']:+.2f} points of mean IoU"
        lines.append(f"ledger: {entry['leak']}: {entry['used']} (not: {entry['other']}){effect}")
        if entry.get("note"):
            lines[-1] += f" ({entry['note']})"
    if figures["failed"]:
        lines += ["", f"{len(figures['failed'])} images were left out:", *(f"  {text}" for text in figures["failed"])]
    return "\n".join(lines)
