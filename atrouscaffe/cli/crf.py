"""``atrouscaffe crf``: refine saved scores, label maps or scribbles by the fully connected CRF."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from atrouscaffe.cli.pictures import Picture, add_folder_options, find_pictures

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Refine what is known about pictures by the fully connected CRF. For each picture NAME the folder OUT gets "
        "NAME.png (class indices), NAME_overlay.png and, if asked for, the marginals.")

SUFFIXES = (".npz", ".npy", ".mat", ".bin", ".png")
PARAMETERS = {
    "position_sigma": "sigma of the position kernel, pixels", "position_weight": "its weight, nats",
    "bilateral_sigma_xy": "sigma of positions in the bilateral kernel, pixels",
    "bilateral_sigma_rgb": "sigma of colours, levels of 255", "bilateral_weight": "its weight, nats",
}
FIGURE = (0, 1, 2, 10)  # iterations of the paper's Fig. 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("image", metavar="IMAGE|FOLDER", help="a picture, or a folder of pictures")
    add_folder_options(parser)
    known = parser.add_argument_group("what is known")
    known.add_argument("--scores", required=True, metavar="FILE|FOLDER",
                       help="npz, npy, mat (of MatWrite), bin (of SaveMatAsBin.m) or PNG; in a folder NAME.* or "
                            "NAME_blob_0.mat")
    known.add_argument("--kind", choices=("scores", "probabilities", "labels", "scribbles"),
                       help="what the file holds (bin: probabilities; PNG: labels; npz: as its array is called; "
                            "else scores)")
    known.add_argument("--confidence", type=float, default=0.7, metavar="P",
                       help="probability that a label or scribble is right (0.7)")
    known.add_argument("--unsure", type=int, default=255, metavar="N",
                       help="label that means unknown (255); in coloured scribbles it is black")
    known.add_argument("--classes", type=int, metavar="N", help="number of labels of a label map (largest label + 1)")
    how = parser.add_argument_group("parameters")
    how.add_argument("--preset", default="paper", metavar="NAME", help="parameters of a published model (paper)")
    for name, text in PARAMETERS.items():
        how.add_argument("--" + name.replace("_", "-"), type=float, metavar="X", help=f"{text} (the preset's)")
    how.add_argument("--normalization", choices=("after", "before", "symmetric", "none"),
                     help="of the kernels; docs/crf.md says which is whose (the preset's)")
    how.add_argument("--iterations", type=int, metavar="N", help="mean-field updates (the preset's)")
    how.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N (cpu)")
    how.add_argument("--exact", action="store_true", help="keep labels that provably cannot matter, too")
    out = parser.add_argument_group("results")
    out.add_argument("--out", default="refined", metavar="DIR", help="folder for the results (refined)")
    out.add_argument("--format", choices=("png", "bin"), default="png", help="of the labels (png)")
    out.add_argument("--save-probabilities", choices=("npz", "npy", "mat", "bin"), metavar="npz|npy|mat|bin",
                     help="write the marginals, too")
    out.add_argument("--no-overlay", action="store_true", help="write no overlays")
    out.add_argument("--show-iterations", action="store_true",
                     help="write NAME_iterations.png: score and belief of one class after 0, 1, 2 and 10 updates")
    out.add_argument("--show-class", type=int, metavar="N", help="class of that picture (the largest but 0)")


def run(args: argparse.Namespace) -> int:
    """Refine everything; 2 where a picture could not be used."""
    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.crf.presets import preset
    from atrouscaffe.errors import ArgumentError, AtrousCaffeError, FileAccessError
    from atrouscaffe.formats.written import protect
    from atrouscaffe.runtime.backend import get_backend

    if args.classes is not None and not 1 <= args.classes <= 256:
        raise ArgumentError(f"--classes: expected 1 to 256, what a PNG's pixels can hold, got {args.classes}")
    preset(args.preset)
    pictures = find_pictures([args.image], recursive=args.recursive)
    protect(picture.path for picture in pictures)
    try:
        Path(args.out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(f"cannot make the folder: {error.strerror}", args.out) from None
    backend = get_backend(args.device)
    progress, failed = Progress(len(pictures), "pictures"), 0
    for done, picture in enumerate(pictures, 1):
        try:
            line = _refine(picture, args, backend)
        except AtrousCaffeError as error:
            if args.debug or len(pictures) == 1:
                raise
            progress.close()
            print(f"atrouscaffe: {error}", file=sys.stderr)
            failed += 1
            continue
        progress.close()
        print(line, flush=True)
        progress.update(done, picture.path.name)
    progress.close()
    return 2 if failed else 0


def _find(folder: Path, stem: str) -> Path:
    """Return the file of scores that belongs to a picture."""
    from atrouscaffe.errors import FileMissingError

    if not folder.is_dir():
        return folder
    places = [folder / f"{stem}_blob_0.mat", *(folder / (stem + suffix) for suffix in SUFFIXES)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileMissingError(f"expected one of {', '.join(place.name for place in places)}", str(folder))
    return found


def _known(path: Path, size: tuple[int, int], args: argparse.Namespace) -> tuple[Any, Any]:
    """Return (energies (L, H, W), palette of coloured scribbles or None)."""
    import numpy as np

    from atrouscaffe.crf import unary
    from atrouscaffe.errors import DataError

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"expected scores in a file of {', '.join(SUFFIXES)}, got {suffix or 'no suffix'}", str(path))
    palette = None
    if suffix == ".png":
        energies, palette = _from_picture(path, args)
    else:
        values, kind = _read_array(path)
        kind = args.kind or kind
        if kind in ("labels", "scribbles"):
            raise DataError(f"--kind {kind} is for PNG files", str(path))
        if values.ndim == 4 and values.shape[0] == 1:
            values = values[0]
        if values.ndim == 3 and values.shape[1] >= size[0] and values.shape[2] >= size[1] and suffix == ".mat":
            values = values[:, : size[0], : size[1]]  # of the net's size: the top left part is the picture
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise DataError(f"{wrong} of {values.size} values are not finite (NaN or infinity)", str(path))
        energies = unary.from_scores(values) if kind == "scores" else unary.from_probabilities(values, clip=None)
    if energies.shape[1:] != size:
        raise DataError(f"expected {'(labels, H, W)'} for a picture of {size[0]} rows and {size[1]} columns, got "
                        f"{energies.shape}", str(path))
    return energies, palette


def _read_array(path: Path) -> tuple[Any, str]:
    """Return (array with the labels first, what it is unless the user says otherwise)."""
    import numpy as np

    from atrouscaffe.data.bin import read_bin
    from atrouscaffe.data.mat import read_mat
    from atrouscaffe.errors import DataError, FileMissingError

    if not path.is_file():
        raise FileMissingError("no such file", str(path))
    suffix = path.suffix.lower()
    if suffix == ".bin":
        return np.moveaxis(read_bin(path), -1, 0), "probabilities"
    if suffix == ".mat":
        values = read_mat(path).get("data")
        if not isinstance(values, np.ndarray):
            raise DataError("expected a variable 'data', as MatWrite names it", str(path))
        return values.transpose(), "scores"  # (W, H, C, N)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, "scores"
        with loaded:
            for name in ("scores", "probabilities"):
                if name in loaded.files:
                    return loaded[name], name
            if len(loaded.files) == 1:
                return loaded[loaded.files[0]], "scores"
            names = ", ".join(loaded.files)
    except (ValueError, OSError, EOFError, KeyError) as error:
        # NumPy takes what is no array for a pickle, and then advises to trust it
        reason = "it holds something else" if "pickle" in str(error) else error
        raise DataError(f"no array that NumPy can read: {reason}", str(path)) from None
    raise DataError(f"expected an array 'scores' or 'probabilities', got {names or 'none'}", str(path))


def _from_picture(path: Path, args: argparse.Namespace) -> tuple[Any, Any]:
    """Return energies of a label map or of scribbles; colours of scribbles become labels in rising order."""
    import numpy as np

    from atrouscaffe.crf import unary
    from atrouscaffe.data.image import read_image
    from atrouscaffe.data.palette import read_labels
    from atrouscaffe.errors import DataError

    palette = None
    try:
        labels = read_labels(path).astype(np.int64)
    except DataError:
        if args.kind != "scribbles":
            raise
        rgb = read_image(path)[:, :, ::-1].astype(np.int64)
        coded = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        colours = np.unique(coded)
        colours = colours[colours > 0]
        if not 1 <= colours.size <= 64:
            raise DataError(f"scribbles: expected 1 to 64 colours on black, got {colours.size}; save the picture "
                            "without smoothing or compression", str(path)) from None
        labels = np.where(coded > 0, np.searchsorted(colours, coded), args.unsure)
        palette = np.zeros((256, 3), np.uint8)
        palette[: colours.size] = np.stack([colours & 255, colours >> 8 & 255, colours >> 16], axis=1)
    known = labels[labels != args.unsure]
    count = args.classes or (int(known.max()) + 1 if known.size else 1)
    return unary.from_labels(labels, count, args.confidence, unsure=args.unsure), palette


def _refine(picture: Picture, args: argparse.Namespace, backend: Any) -> str:
    """Refine one picture, write its results; return the line to print."""
    import time

    from atrouscaffe.crf.densecrf import DenseCRF
    from atrouscaffe.crf.presets import preset
    from atrouscaffe.data.image import read_image
    from atrouscaffe.formats.written import protect

    image = read_image(picture.path, upright=True)
    scores = _find(Path(args.scores), str(picture.stem))
    protect([scores])
    energies, palette = _known(scores, image.shape[:2], args)
    values = preset(args.preset)
    chosen = {name: getattr(values, name) if getattr(args, name) is None else getattr(args, name)
              for name in (*PARAMETERS, "normalization", "iterations")}
    begin = time.perf_counter()
    crf = DenseCRF(energies, device="cpu" if backend.name == "cpu" else backend)
    if chosen["position_weight"]:
        crf.add_gaussian(chosen["position_sigma"], chosen["position_weight"], normalization=chosen["normalization"])
    if chosen["bilateral_weight"]:
        crf.add_bilateral(image[:, :, ::-1], chosen["bilateral_sigma_xy"], chosen["bilateral_sigma_rgb"],
                          chosen["bilateral_weight"], normalization=chosen["normalization"])
    result = crf.infer(chosen["iterations"], exact=args.exact)
    seconds = time.perf_counter() - begin
    shown = _iterations(crf, result, args.show_class) if args.show_iterations else None
    written = _write_results(Path(args.out), picture.stem, image, result, palette, args)
    if shown is not None:
        _write(Path(args.out) / f"{picture.stem}_iterations.png", shown)
    return f"{picture.path} -> {written} ({result.iterations} iterations, {seconds:.2f} s)"


def _write(path: Path, data: bytes) -> None:
    from atrouscaffe.formats.atomic import atomic_write

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(data)


def _write_results(out: Path, stem: Path, image: Any, result: Any, palette: Any, args: argparse.Namespace) -> Path:
    """Write labels, overlay and marginals; return the path of the labels."""
    import io

    import numpy as np

    from atrouscaffe.data.bin import encode_bin
    from atrouscaffe.data.label_sets import class_names
    from atrouscaffe.data.mat import encode_mat
    from atrouscaffe.data.overlay import encode_picture, overlay
    from atrouscaffe.data.palette import encode_labels

    labels, beliefs = result.labels, result.probabilities
    path = out / f"{stem}.{args.format}"
    _write(path, encode_bin(labels) if args.format == "bin" else encode_labels(labels, palette))
    if not args.no_overlay:
        names = class_names(len(beliefs)) if palette is None else [f"scribble {i}" for i in range(len(beliefs))]
        _write(out / f"{stem}_overlay.png", encode_picture(overlay(image, labels.astype(np.uint8), names)))
    kind = args.save_probabilities
    if kind == "bin":
        _write(out / f"{stem}_probabilities.bin", encode_bin(np.moveaxis(beliefs, 0, -1)))
    elif kind == "mat":
        _write(out / f"{stem}_probabilities.mat", encode_mat({"data": beliefs[None].transpose()}))
    elif kind:
        buffer = io.BytesIO()
        if kind == "npz":
            np.savez(buffer, probabilities=beliefs)
        else:
            np.save(buffer, beliefs)
        _write(out / f"{stem}_probabilities.{kind}", buffer.getvalue())
    return path


def _iterations(crf: Any, result: Any, label: int | None) -> bytes:
    """Return a PNG like the paper's Fig. 2: scores above, beliefs below, after 0, 1, 2 and 10 updates."""
    import cv2
    import numpy as np

    from atrouscaffe.data.overlay import encode_picture
    from atrouscaffe.errors import ArgumentError

    if crf.labels < 2:
        raise ArgumentError("--show-iterations: expected at least two labels, got one")
    if label is None:
        label = 1 + int(np.bincount(result.labels.ravel(), minlength=crf.labels)[1:].argmax())
    if not 0 <= label < crf.labels:
        raise ArgumentError(f"--show-class: expected 0 … {crf.labels - 1}, got {label}")
    seen: dict[int, Any] = {}
    crf.infer(max(FIGURE), callback=lambda i, q: seen.__setitem__(i, q[label].copy()) if i in FIGURE else None)
    columns = []
    for iteration in FIGURE:
        belief = np.clip(seen[iteration], 1e-6, 1 - 1e-6)
        score = np.clip(np.log(belief / (1 - belief)) / 20 + 0.5, 0, 1)
        head = np.full((24, belief.shape[1]), 255, np.uint8)
        cv2.putText(head, f"iteration {iteration}", (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA)
        parts = [head, (255 * score).astype(np.uint8), np.full((6, belief.shape[1]), 255, np.uint8),
                 (255 * belief).astype(np.uint8)]
        columns += [np.concatenate(parts), np.full((sum(len(p) for p in parts), 6), 255, np.uint8)]
    return encode_picture(np.repeat(np.concatenate(columns[:-1], axis=1)[..., None], 3, axis=2))
