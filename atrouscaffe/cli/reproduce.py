"""``atrouscaffe reproduce``: the paper's tables and figures, ours beside the published ones."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from atrouscaffe.cli.options import add_device_options, pairs

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Run what a table or figure of the DeepLab paper needs, and print the paper's value, ours and the difference; "
        "pictures and curves go into a folder. Where weights or images are missing, it says which file, who published "
        "it and where to put it, and goes on with the rest; the exit status is then 1.")
TARGETS = ("table1", "table2", "table3", "fig2", "fig4", "fig5", "fig6", "fig7", "speed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("targets", nargs="+", metavar="TARGET", choices=(*TARGETS, "all"),
                        help=f"{', '.join(TARGETS)}, or all")
    parser.add_argument("--voc", metavar="ROOT", help="VOC 2012's folder")
    parser.add_argument("--list", metavar="NAME", default="val", help="list of images (val)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--weights", action="append", default=[], metavar="MODEL=FILE",
                        help="weights of a model, such as deeplab-largefov=train_iter_6000.caffemodel")
    parser.add_argument("--weights-dir", metavar="DIR", help="folder with the others: DIR/MODEL/*.caffemodel")
    parser.add_argument("--stand-in", action="store_true", help="random weights for all models, to try the way out")
    parser.add_argument("--predictions", action="append", default=[], metavar="NAME=FOLDER",
                        help="another method's index PNGs, for fig6")
    parser.add_argument("--out", metavar="DIR", default="reproduced", help="folder for results (reproduced)")
    add_device_options(parser)
    parser.add_argument("--input-size", type=int, metavar="PX", help="side of the nets' input, not the written one")
    parser.add_argument("--train-batch", type=int, metavar="N", default=1, help="batch of table2's training speed (1)")
    parser.add_argument("--train-size", type=int, metavar="PX", help="its crop, not the written one")
    parser.add_argument("--no-train-speed", action="store_true", help="leave table2's training speed out")


def run(args: argparse.Namespace) -> int:
    """Reproduce; 1 where something is missing."""
    from atrouscaffe.cli.progress import Progress
    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.formats.atomic import atomic_write
    from atrouscaffe.pipeline.bench import Bench
    from atrouscaffe.pipeline.reproduce import render, reproduce

    for name, value in (("--limit", args.limit), ("--train-batch", args.train_batch)):
        if value is not None and value < 1:
            raise ArgumentError(f"{name}: expected at least 1, got {value}")
    shown: list[Any] = []

    def progress(what: str, total: int) -> Any:
        line = Progress(total)
        shown.append(line)
        return lambda done, report: line.update(done, what)

    bench = Bench(Path(args.out), Path(args.voc) if args.voc else None, args.list, args.limit,
                  {name: Path(file) for name, file in pairs(args.weights, "--weights").items()},
                  Path(args.weights_dir) if args.weights_dir else None, args.stand_in, args.input_size, args.device,
                  args.precision, say=lambda text: print(text, file=sys.stderr), progress=progress,
                  others={name: Path(folder) for name, folder in pairs(args.predictions, "--predictions").items()})
    targets = TARGETS if "all" in args.targets else tuple(dict.fromkeys(args.targets))
    for target in targets:
        options: dict[str, Any] = {}
        if target == "table2":
            options = {"train_batch": args.train_batch, "train_size": args.train_size,
                       "train": not args.no_train_speed}
        tables = reproduce(target, bench, **options)
        for line in shown:
            line.close()
        print("\n\n".join(render(table) for table in tables) + "\n")
        with atomic_write(Path(args.out) / f"{target}.json") as file:
            file.write(json.dumps({"tables": [table.as_dict() for table in tables], "notes": bench.notes},
                                  indent=1).encode())
    for note in bench.notes:
        print(f"note: {note}")
    return 1 if bench.incomplete else 0
