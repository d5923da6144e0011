"""``atrouscaffe submit``: the archive that VOC's evaluation server takes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from atrouscaffe.cli.options import add_model_options, make_segmenter

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Segment a list of images (VOC's test, which has no ground truth) and write the archive that VOC's evaluation "
        "server takes: results/VOC2012/Segmentation/comp6_test_cls/ID.png. The archive is checked against the "
        "development kit's rules; --check checks one that is there already.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model_options(parser)
    parser.add_argument("--voc", metavar="ROOT", required=True, help="VOC 2012's folder, with the images of the list")
    parser.add_argument("--list", metavar="NAME", default="test", help="list of images (test)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images, to try it out")
    parser.add_argument("--predictions", metavar="FOLDER", help="take index PNGs (ID.png) instead of running a model")
    parser.add_argument("--competition", choices=("comp5", "comp6"), default="comp6",
                        help="comp5: trained on VOC's data only; comp6: on any, such as ImageNet weights (comp6)")
    parser.add_argument("--out", metavar="FILE", default="results.tgz", help=".tar, .tar.gz or .tgz (results.tgz)")
    parser.add_argument("--check", metavar="FILE", help="only check this archive; exit 1 if it may not be sent")


def run(args: argparse.Namespace) -> int:
    """Make or check an archive."""
    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.data.dataset import check_samples, find_samples
    from atrouscaffe.data.palette import read_labels
    from atrouscaffe.errors import ArgumentError, DataError, FileMissingError
    from atrouscaffe.pipeline.submit import check_archive, make_archive, member_folder

    if args.check and not Path(args.check).exists():
        raise FileMissingError("--check: no such archive", args.check)
    samples = find_samples(args.voc, args.list, with_labels=False)
    if args.limit is not None:
        if args.limit < 1:
            raise ArgumentError(f"--limit: expected at least 1, got {args.limit}")
        samples = samples[:args.limit]
    name = Path(args.list).stem.removesuffix("_id")
    if args.check:
        return _told(args.check, check_archive(args.check, samples, args.competition, name))
    bad = check_samples(samples)
    if bad:  # an archive must be whole, so this is said before an hour of work
        raise DataError(f"{len(bad)} of the list's {len(samples)} images cannot be used, the first: {bad[0].why}",
                        str(args.list))
    if args.predictions:
        folder = Path(args.predictions)

        def labels(sample: Any) -> Any:
            return read_labels(folder / f"{sample.id}.png")
    else:
        segmenter = make_segmenter(args)

        def labels(sample: Any) -> Any:
            return segmenter(sample.image).labels
    progress = Progress(len(samples))
    make_archive(args.out, samples, labels, member_folder(args.competition, name), progress.update)
    progress.close()
    return _told(args.out, check_archive(args.out, samples, args.competition, name))


def _told(path: str, problems: list[str]) -> int:
    """Print what was found; return the exit status."""
    for text in problems[:20]:
        print(f"{path}: {text}", file=sys.stderr)
    if len(problems) > 20:
        print(f"{path}: and {len(problems) - 20} more", file=sys.stderr)
    print(f"{path}: {'may not be sent' if problems else 'as the development kit wants it'}")
    return 1 if problems else 0
