"""``atrouscaffe segment``: label maps and overlays of photographs, folders and videos."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atrouscaffe.cli.options import add_model_options, make_segmenter
from atrouscaffe.cli.pictures import Picture, add_folder_options, find_pictures

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Segment photographs, all pictures of a folder, or videos. For each picture NAME the folder OUT gets NAME.png "
        "(class indices, with VOC's palette) and NAME_overlay.png (the classes' colours over the picture, with a "
        "legend); for a video NAME_overlay.mp4 and a folder NAME with an index PNG for each frame.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("inputs", nargs="+", metavar="IMAGE|FOLDER|VIDEO")
    add_folder_options(parser)
    add_model_options(parser)
    out = parser.add_argument_group("results")
    out.add_argument("--out", default="segmented", metavar="DIR",
                     help="folder for the results; made where it is missing (segmented)")
    out.add_argument("--no-overlay", action="store_true", help="write index PNGs only")
    out.add_argument("--alpha", type=float, default=0.55, metavar="A", help="share of colour in overlays (0.55)")
    out.add_argument("--save-scores", action="store_true", help="also write NAME.npz with the net's scores (C, H, W)")
    out.add_argument("--json", action="store_true", help="print what was done as JSON")
    sampling = parser.add_argument_group("Bayesian nets")
    sampling.add_argument("--samples", type=int, default=1, metavar="N",
                          help="mean of N passes over each picture, for nets whose Dropout layers have "
                               "sample_weights_test; also writes NAME_uncertainty.png, the variance over the passes, "
                               "white where it is the picture's largest (1)")


def run(args: argparse.Namespace) -> int:
    """Segment everything; 2 where an input could not be used."""
    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.errors import ArgumentError, AtrousCaffeError, FileAccessError
    from atrouscaffe.formats.written import protect

    if not 0 <= args.alpha <= 1:
        raise ArgumentError(f"--alpha: expected 0 to 1, got {args.alpha}")
    todo = find_pictures(args.inputs, videos=True, recursive=args.recursive)
    protect(job.path for job in todo)
    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(f"cannot make the folder: {error.strerror}", args.out) from None
    segmenter = make_segmenter(args, samples=args.samples)
    progress, results, failed = Progress(len(todo), "files"), [], 0
    for done, job in enumerate(todo, 1):
        try:
            entry = _video(segmenter, job, out, args) if job.video else _picture(segmenter, job, out, args)
            results.append(entry)
            if not args.json:
                progress.close()
                print(_line(entry), flush=True)
        except AtrousCaffeError as error:
            if args.debug:
                raise
            progress.close()
            print(f"atrouscaffe: {error}", file=sys.stderr)
            results.append({"input": str(job.path), "error": str(error)})
            failed += 1
        progress.update(done, job.path.name)
    progress.close()
    if args.json:
        about = {"model": str(args.model), "weights": args.weights, "preprocessing": segmenter.preprocessing,
                 "crf": segmenter.crf, "classes": list(segmenter.names)}
        print(json.dumps({**about, "results": results}, indent=1))
    return 2 if failed else 0


def _line(entry: dict[str, Any]) -> str:
    """Return what is said of an input that was segmented."""
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in entry["classes"].items())
    return f"{entry['input']} -> {entry['labels']} ({shares})"


def _write(path: Path, data: bytes) -> None:
    from atrouscaffe.formats.atomic import atomic_write

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(data)


def _shares(counts: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return the share of each class that occurs, the largest first."""
    total = max(1, int(counts.sum()))
    order = sorted((i for i in range(len(names)) if counts[i]), key=lambda i: -counts[i])
    return {names[i]: round(float(counts[i]) / total, 6) for i in order}


def _picture(segmenter: Any, job: Picture, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Segment one picture and write its results."""
    import numpy as np

    from atrouscaffe.data.image import read_image
    from atrouscaffe.data.overlay import encode_picture, overlay
    from atrouscaffe.data.palette import encode_labels

    image = read_image(job.path, upright=True)
    begin = time.perf_counter()
    scores = uncertainty = None
    if args.samples > 1:
        labels, _, scores, uncertainty = segmenter.sampled(image)
    elif args.save_scores:
        labels, _, scores = segmenter(image)
    else:
        labels = segmenter.labels(image)
    seconds = time.perf_counter() - begin
    entry: dict[str, Any] = {"input": str(job.path), "height": image.shape[0], "width": image.shape[1],
                             "labels": str(out / f"{job.stem}.png")}
    _write(out / f"{job.stem}.png", encode_labels(labels))
    if not args.no_overlay:
        entry["overlay"] = str(out / f"{job.stem}_overlay.png")
        picture = overlay(image, labels, segmenter.names, alpha=args.alpha)
        _write(out / f"{job.stem}_overlay.png", encode_picture(picture))
    if uncertainty is not None:
        largest = float(uncertainty.max())
        entry |= {"uncertainty": str(out / f"{job.stem}_uncertainty.png"), "largest_uncertainty": largest}
        shown = np.zeros(labels.shape, np.uint8) if largest == 0 else np.uint8(np.rint(uncertainty * (255 / largest)))
        _write(out / f"{job.stem}_uncertainty.png", encode_picture(shown))
    if args.save_scores:
        import io

        buffer = io.BytesIO()
        np.savez(buffer, scores=scores, **({} if uncertainty is None else {"uncertainty": uncertainty}))
        entry["scores"] = str(out / f"{job.stem}.npz")
        _write(out / f"{job.stem}.npz", buffer.getvalue())
    counts = np.bincount(labels.ravel(), minlength=segmenter.classes)
    return entry | {"seconds": round(seconds, 4), "classes": _shares(counts, segmenter.names)}


def _counted(results: Any, progress: Any) -> Iterator[tuple[int, Any]]:
    for number, result in enumerate(results, 1):
        yield number, result
        progress.update(number)


def _video(segmenter: Any, job: Picture, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Segment each frame of a video."""
    import numpy as np

    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.data.overlay import overlay
    from atrouscaffe.data.palette import encode_labels
    from atrouscaffe.data.video import VideoFile, VideoFrames
    from atrouscaffe.formats import written

    frames = VideoFrames(job.path)
    folder, film = out / job.stem, out / f"{job.stem}_overlay.mp4"
    written.check(film)
    folder.mkdir(parents=True, exist_ok=True)
    target = VideoFile(film, frames.rate)
    progress, number, whole = Progress(frames.count, f"frames of {job.path.name}"), 0, False
    counts = np.zeros(segmenter.classes, np.int64)
    begin = time.perf_counter()
    try:
        shown, sent = itertools.tee(frames)
        for number, (frame, labels) in _counted(zip(shown, segmenter.stream(sent)), progress):
            counts += np.bincount(labels.ravel(), minlength=segmenter.classes)
            _write(folder / f"frame_{number:06}.png", encode_labels(labels))
            if not args.no_overlay:
                target.write(overlay(frame, labels, segmenter.names, alpha=args.alpha, legend=False))
        whole = True
    finally:
        progress.close()
        target.close(keep=whole)
    if not args.no_overlay:
        written.record(film)
    entry: dict[str, Any] = {"input": str(job.path), "frames": number, "labels": str(folder)}
    if not args.no_overlay:
        entry["overlay"] = str(film)
    return entry | {"seconds": round(time.perf_counter() - begin, 4), "classes": _shares(counts, segmenter.names)}
