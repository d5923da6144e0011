"""``atrouscaffe classify``: class probabilities of pictures, as Caffe's ``classify.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atrouscaffe.cli.options import add_device_options
from atrouscaffe.cli.pictures import add_folder_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Classify pictures: the best classes of each on standard output, all scores with --out as .npy. Options have
the names of Caffe's classify.py, with hyphens or underscores; pixels are from 0 to 1 before --raw-scale."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("images", nargs="+", metavar="IMAGE",
                        help="pictures, folders of them, or a .npy with (N, H, W, K)")
    parser.add_argument("--model", "--model-def", required=True, metavar="NET", help="deploy prototxt")
    parser.add_argument("--weights", "--pretrained-model", required=True, metavar="FILE", help="caffemodel")
    parser.add_argument("--out", metavar="FILE",
                        help="write all scores as .npy, (N, C): NaN for a file that could not be used")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to show (5)")
    parser.add_argument("--center-only", action="store_true", help="take the centre; else average over ten crops")
    parser.add_argument("--images-dim", metavar="H,W", help="resize pictures to this before cropping (the net's input)")
    parser.add_argument("--mean", "--mean-file", metavar="M",
                        help="mean: a number a channel (B,G,R), .npy or .binaryproto")
    parser.add_argument("--input-scale", type=float, metavar="S", help="factor behind the mean")
    parser.add_argument("--raw-scale", type=float, default=255.0, metavar="S", help="factor before the mean (255)")
    parser.add_argument("--channel-swap", default="2,1,0", metavar="ORDER",
                        help="order of channels: 2,1,0 makes BGR of RGB (default); none leaves them, and grey is read")
    parser.add_argument("--ext", metavar="EXT", help="only files with this suffix of a folder (every picture)")
    add_folder_options(parser)
    parser.add_argument("--gpu", action="store_true", help="run on a GPU: --device cuda")
    add_device_options(parser)


def run(args: argparse.Namespace) -> int:
    """Classify, one picture after another; 2 where one could not be used."""
    import numpy as np

    from atrouscaffe import pycaffe
    from atrouscaffe.errors import AtrousCaffeError, DataError, FileAccessError, FileMissingError
    from atrouscaffe.formats.atomic import atomic_write
    from atrouscaffe.formats.written import protect

    swap = None if args.channel_swap == "none" else [int(n) for n in _numbers(args.channel_swap, "--channel-swap")]
    dims = None if args.images_dim is None else [int(n) for n in _numbers(args.images_dim, "--images-dim")]
    names = _names(args.labels)
    sources = [source for name in args.images for source in _sources(name, args)]
    protect(sources)
    net = pycaffe.Classifier(args.model, args.weights, image_dims=dims, mean=_mean(args.mean),
                             input_scale=args.input_scale, raw_scale=args.raw_scale, channel_swap=swap,
                             device="cuda" if args.gpu else args.device, precision=args.precision)
    rows: list[Any] = []
    failed = 0
    for name in sources:
        try:
            for title, picture in _pictures(name, color=swap is not None):
                scores = _scores(net, picture, args)
                if args.out:
                    rows.append(scores)
                labels = _labels(names, len(scores), args.labels)
                print(title)
                for best in np.argsort(-scores, kind="stable")[:args.top]:
                    print(f"  {scores[best]:.4f}  {labels[best]}", flush=True)
        except (DataError, FileAccessError, FileMissingError) as error:
            if args.debug or len(sources) == 1:
                raise
            print(f"atrouscaffe: {error}", file=sys.stderr)
            failed += 1
            rows.append(None)
    if failed == len(sources):
        raise AtrousCaffeError("no picture could be used")
    if args.out:
        with atomic_write(args.out) as file:
            unknown = np.full_like(next(row for row in rows if row is not None), np.nan)
            np.save(file, np.stack([unknown if row is None else row for row in rows]), allow_pickle=False)
    return 2 if failed else 0


def _scores(net: Any, picture: Any, args: argparse.Namespace) -> Any:
    """Return one picture's score of each class."""
    from atrouscaffe.errors import ArgumentError

    scores = net.predict([picture], not args.center_only)
    if scores.size != scores.shape[1]:
        raise ArgumentError(f"{args.model}: expected a net with one score a class, got scores of shape "
                            f"{scores.shape[1:]}; atrouscaffe segment takes nets that label pixels")
    return scores.reshape(-1)


def _numbers(text: str, option: str) -> list[float]:
    from atrouscaffe.errors import ArgumentError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(f"{option}: expected numbers with commas, got {text!r}") from None


def _mean(text: str | None) -> Any:
    import numpy as np

    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.formats.mean import read_mean

    if text is None:
        return None
    if text.endswith((".npy", ".binaryproto")):
        mean = read_mean(text)
        return mean if mean.shape[1:] != (1, 1) else mean[:, 0, 0]
    try:
        return np.array(_numbers(text, "--mean"))
    except ArgumentError:
        raise ArgumentError(f"--mean: expected numbers with commas, a .npy or a .binaryproto, got {text!r}") from None


def _sources(name: str, args: argparse.Namespace) -> list[str]:
    """Return the files that a word names: itself, or a folder's pictures."""
    from atrouscaffe.cli.pictures import find_pictures
    from atrouscaffe.errors import DataError

    if not Path(name).is_dir():
        return [name]
    found = [str(picture.path) for picture in find_pictures([name], recursive=args.recursive, distinct=False)]
    if args.ext is not None:
        found = [path for path in found if Path(path).suffix.lower() == f".{args.ext.lower().lstrip('.')}"]
        if not found:
            raise DataError(f"no pictures with the suffix .{args.ext} in it; --ext names another", name)
    return found


def _pictures(name: str, color: bool) -> Iterator[tuple[str, Any]]:
    """Yield the title and the pixels of each picture in a file; photographs are turned upright."""
    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.pycaffe import io

    if not name.endswith(".npy"):
        yield name, io.load_image(name, color, upright=True)
        return
    rows = _rows(name)
    if rows.ndim != 4:
        raise ArgumentError(f"{name}: expected pictures of shape (N, H, W, K), got {rows.shape}")
    for i, row in enumerate(rows):
        yield f"{name}[{i}]", row


def _rows(name: str) -> Any:
    """Return the array in a .npy file."""
    import numpy as np

    from atrouscaffe.errors import DataError, FileMissingError

    try:
        rows = np.load(name, allow_pickle=False)
    except FileNotFoundError:
        raise FileMissingError("no such file", name) from None
    except (ValueError, EOFError) as error:
        # NumPy takes what is no array for a pickle, and then advises to trust it
        reason = "it holds something else" if "pickle" in str(error) else error
        raise DataError(f"no array that NumPy can read: {reason}", name) from None
    if not isinstance(rows, np.ndarray):
        raise DataError("expected one array, got an archive of several", name)
    return rows


def _names(path: str | None) -> list[str] | None:
    """Return the lines of a file of names."""
    from atrouscaffe.errors import FileMissingError

    if path is None:
        return None
    if not Path(path).is_file():
        raise FileMissingError(f"no such file: {path}")
    return Path(path).read_text(encoding="utf-8").splitlines()


def _labels(names: list[str] | None, count: int, path: str | None) -> list[str]:
    """Return a name for each of `count` classes."""
    from atrouscaffe.errors import ArgumentError

    if names is None:
        return [f"class {i}" for i in range(count)]
    if len(names) < count:
        raise ArgumentError(f"{path}: expected the names of {count} classes, one a line, got {len(names)}")
    return names
