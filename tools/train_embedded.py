#!/usr/bin/env python3
"""Train the embedded model on PASCAL VOC with this project's solver; docs/model-card.md tells the story.

    python tools/train_embedded.py head  --voc VOC2012 --start START.caffemodel --out RUN
    python tools/train_embedded.py whole --voc VOC2012 --start START.caffemodel --out RUN
    python tools/train_embedded.py ship  --out RUN

VOC2012 holds ``JPEGImages``, ``SegmentationClass`` and the list ``list/train.txt`` (lines of two paths, as
DeepLab's lists have them). START is the starting model and teacher. Every seventh line of the list is held
out for choices. A stage that is interrupted (Ctrl-C, SIGTERM, a crash) goes on from its newest
snapshot when the same command is given again; what happened is in RUN/log.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import signal
import sys
import time
from pathlib import Path

from atrouscaffe.errors import AtrousCaffeError, DataError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.weights import open_weights
from atrouscaffe.net import Net
from atrouscaffe.resources import resource
from atrouscaffe.solver.solver import Event, Solver, get_solver

FOLDER = "deeplab-mnv2-largefov"
SOLVERS = {"head": "solver_head.prototxt", "whole": "solver.prototxt"}
TEACHER = "teacher/"
HOLD_OUT = 7


def split(voc: Path, out: Path) -> Path:
    """Write RUN/train.txt and RUN/holdout.txt; return the first."""
    lines = (voc / "list" / "train.txt").read_text(encoding="utf-8").splitlines()
    if len(lines) < HOLD_OUT:
        raise DataError(f"expected a list of at least {HOLD_OUT} images, got {len(lines)}", str(voc / "list/train.txt"))
    held = lines[HOLD_OUT - 1::HOLD_OUT]
    for name, chosen in (("train", [line for line in lines if line not in set(held)]), ("holdout", held)):
        with atomic_write(out / f"{name}.txt") as file:
            file.write(("\n".join(chosen) + "\n").encode())
    return out / "train.txt"


def newest(out: Path, stage: str) -> Path | None:
    """Return the stage's newest snapshot, None where there is none."""
    found = {int(match[1]): path for path in out.glob(f"{stage}_iter_*.solverstate*")
             if (match := re.fullmatch(rf"{stage}_iter_(\d+)\.solverstate(\.h5)?", path.name))}
    return found[max(found)] if found else None


def begin(net: Net, stage: str, start: Path, out: Path) -> None:
    """Fill a fresh net: the trunk (and the teacher) from the starting model, what stage `head` learned from it."""
    if stage == "head":
        net.copy_from(start, allow_missing=True)
        return
    for layer in open_weights(start).layers:
        for blob, record in zip(net.params.get(TEACHER + layer.name, []), layer.blobs):
            blob.data[...] = record.load().reshape(blob.shape)
    state = newest(out, "head")
    if state is None:
        raise DataError("expected a snapshot of the stage 'head'; run that first", str(out))
    net.copy_from(weights_of(state), allow_missing=True)


def weights_of(state: Path) -> Path:
    """Return the weight file that belongs to a solver state."""
    return state.with_name(state.name.replace("solverstate", "caffemodel"))


class Log:
    """Appends a line of JSON for each event that is worth one."""

    def __init__(self, path: Path, stage: str, every: int) -> None:
        self.path, self.stage, self.every, self.start = path, stage, every, time.time()

    def __call__(self, event: Event) -> None:
        """Write one event; iterations only every so often."""
        if event.kind == "iteration" and event.iteration % self.every:
            return
        numbers = {"loss": event.smoothed_loss, "rate": event.rate, "gradient_norm": event.gradient_norm}
        row = {"stage": self.stage, "event": event.kind, "iteration": event.iteration,
               "seconds": round(time.time() - self.start, 1),
               **{key: float(f"{value:.5g}") for key, value in numbers.items() if math.isfinite(value)}}
        row |= {name: [float(f"{v:.4g}") for v in values] for name, values in event.outputs.items()}
        if event.path:
            row["file"] = Path(event.path).name
        self.write(row)

    def write(self, row: dict) -> None:
        """Append one row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def train(stage: str, voc: Path, start: Path, out: Path) -> None:
    """Run one stage to its end, or until somebody interrupts it."""
    out.mkdir(parents=True, exist_ok=True)
    solver: Solver = get_solver(
        resource("prototxt", f"{FOLDER}/{SOLVERS[stage]}"),
        variables={"DATA_ROOT": str(voc), "LIST": str(split(voc, out)), "SNAPSHOTS": str(out)}, allow_paths=[voc, out])
    log = Log(out / "log.jsonl", stage, 10)
    solver.listeners.append(log)
    state = newest(out, stage)
    if state is None:
        begin(solver.net, stage, start, out)
    else:
        print(f"going on from {state.name}")
    signal.signal(signal.SIGINT, lambda *_: solver.request("stop"))
    signal.signal(signal.SIGTERM, lambda *_: solver.request("stop"))
    log.write({"stage": stage, "event": "start", "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    solver.solve(state)
    log.write({"stage": stage, "event": "end" if solver.iter >= solver.param.max_iter else "interrupted",
               "iteration": solver.iter, "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def main(argv: list[str] | None = None) -> int:
    """Run a stage; return the exit status."""
    parser = argparse.ArgumentParser(description="Train the embedded model on PASCAL VOC.")
    parser.add_argument("stage", choices=(*SOLVERS, "ship"))
    parser.add_argument("--voc", type=Path, help="VOC's folder")
    parser.add_argument("--start", type=Path, help="the starting model's caffemodel")
    parser.add_argument("--out", type=Path, required=True, help="folder of snapshots and log")
    options = parser.parse_args(argv)
    try:
        train(options.stage, options.voc.resolve(), options.start.resolve(), options.out.resolve())
    except AtrousCaffeError as error:
        print(f"train_embedded: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
