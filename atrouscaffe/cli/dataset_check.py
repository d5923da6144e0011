"""``atrouscaffe dataset-check``: look through a list of images and label maps."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "add_arguments", "run"]

HELP = """Check a list of 'image label' lines before training: missing and damaged files, label maps of another size
than their image, palette against grey against RGB, values out of range, void, crop sizes, duplicates within the list
and between splits, class histogram. The exit status is 1 where training would fail or be misled, 0 otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("list", metavar="LIST", help="lines as ImageSegData reads them: image and label map")
    parser.add_argument("--root", default="", metavar="FOLDER",
                        help="put in front of each path as it stands (root_folder)")
    parser.add_argument("--classes", type=int, default=21, metavar="N", help="label values are 0 to this minus 1 (21)")
    parser.add_argument("--ignore", type=int, default=255, metavar="N", help="label value of void (255)")
    parser.add_argument("--crop", type=int, default=0, metavar="PX",
                        help="crop_size of the training net, to check (not checked)")
    parser.add_argument("--shrink", type=int, default=8, metavar="N",
                        help="factor by which the net shrinks its labels (8)")
    parser.add_argument("--against", action="append", default=[], metavar="LIST",
                        help="another split, which must not have the same images; may be repeated")
    parser.add_argument("--most", type=int, default=20, metavar="N", help="findings to print of each kind (20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object with everything")


def run(args: argparse.Namespace) -> int:
    """Check; print the report; return the exit status."""
    import json

    from atrouscaffe.pipeline.dataset_check import check_dataset

    report = check_dataset(args.list, args.root, classes=args.classes, ignore=args.ignore, crop=args.crop,
                           shrink=args.shrink, against=args.against)
    print(json.dumps(report.as_dict(), indent=1) if args.json else report.text(args.most))
    return 1 if report.errors else 0
