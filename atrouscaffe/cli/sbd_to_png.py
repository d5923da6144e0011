"""``atrouscaffe sbd-to-png``: build SegmentationClassAug from SBD and VOC."""

from __future__ import annotations

import argparse
import sys

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Build the augmented label maps (SegmentationClassAug) as the DeepLab authors did: SBD's MAT files become PNGs "
        "of class indices, and VOC's own label maps, with their void contours, take the place of SBD's.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("sbd", metavar="SBD", help="folder of SBD's MAT files (benchmark_RELEASE/dataset/cls)")
    parser.add_argument("out", metavar="OUT", help="folder for the PNGs; made where it is missing")
    parser.add_argument("--voc", metavar="ROOT", help="VOC 2012's folder, whose label maps go first; left out, "
                                                      "the labels of SBD alone are written")
    parser.add_argument("--palette", action="store_true", help="write palette PNGs; by default grey ones, which "
                                                              "programs that read label maps as grey want")


def run(args: argparse.Namespace) -> int:
    """Convert; 1 where files could not be used."""
    from pathlib import Path

    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.data.sbd import join_labels
    from atrouscaffe.data.voc import VocFolder
    from atrouscaffe.errors import FileAccessError
    from atrouscaffe.formats.atomic import atomic_write

    voc = VocFolder(args.voc).root / "SegmentationClass" if args.voc else None
    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(f"the folder cannot be made: {error.strerror}", str(out)) from None
    progress = Progress(0, "label maps")

    def write(name: str, data: bytes) -> None:
        with atomic_write(out / f"{name}.png") as file:
            file.write(data)

    def show(done: int, total: int) -> None:
        progress.total = total
        progress.update(done)

    joined = join_labels(args.sbd, voc, write, raw=not args.palette, progress=show)
    progress.close()
    print(f"{out}: {joined.sbd + joined.voc} label maps, {joined.voc} of VOC and {joined.sbd} of SBD")
    for text in joined.failed:
        print(f"left out: {text}", file=sys.stderr)
    return 1 if joined.failed else 0
