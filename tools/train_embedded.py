#!/usr/bin/env python3
"""Train the embedded model on PASCAL VOC with this project's solver; docs/model-card.md tells the story.

    python tools/train_embedded.py features --voc VOC2012 --start START.caffemodel --out RUN
    python tools/train_embedded.py head     --start START.caffemodel --out RUN
    python tools/train_embedded.py scores   --start START.caffemodel --out RUN
    python tools/train_embedded.py whole    --voc VOC2012 --start START.caffemodel --out RUN
    python tools/train_embedded.py ship     --start START.caffemodel --out RUN [--weights SNAPSHOT]
    python tools/train_embedded.py plot     --out RUN

VOC2012 holds ``JPEGImages``, ``SegmentationClass`` and the list ``list/train.txt`` (lines of two paths, as
DeepLab's lists have them). START is the starting model and teacher. Every seventh line of the list is held
out for choices; the others are drawn so that each class is asked for equally often. A stage that is
interrupted (Ctrl-C, SIGTERM, a crash) goes on from its newest snapshot when the same command is given
again; what happened is in RUN/log.jsonl. `ship` writes the weights where the package
expects them and says how they differ from the start; `plot` draws the log.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from atrouscaffe.data.palette import VOID, read_labels
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError
from atrouscaffe.formats.atomic import atomic_path, atomic_write
from atrouscaffe.formats.weights import open_weights
from atrouscaffe.net import Net
from atrouscaffe.pipeline.chart import Panel, Series, draw
from atrouscaffe.resources import resource
from atrouscaffe.solver.solver import Event, Solver, get_solver
from atrouscaffe.spec import TEST, TRAIN

FOLDER = "deeplab-mnv2-largefov"
SOLVERS = {"head": "solver_head.prototxt", "scores": "solver_scores.prototxt", "whole": "solver.prototxt"}
SHIPPED = Path(__file__).resolve().parent.parent / "prototxt" / FOLDER / "voc12.caffemodel.h5"
TEACHER = "teacher/"
HOLD_OUT, DRAWS, SEED = 7, 80, 20


def write(path: Path, lines: Sequence[str]) -> None:
    """Write a text file."""
    with atomic_write(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def split(voc: Path, out: Path) -> None:
    """Write RUN/holdout.txt, and RUN/balanced.txt: the other images, each class as often as any other."""
    source = voc / "list" / "train.txt"
    lines = source.read_text(encoding="utf-8").splitlines()
    if len(lines) < HOLD_OUT:
        raise DataError(f"expected a list of at least {HOLD_OUT} images, got {len(lines)}", str(source))
    held = lines[HOLD_OUT - 1::HOLD_OUT]
    used = [line for line in lines if line not in set(held)]
    holding: dict[int, list[str]] = {}
    for line in used:
        for label in np.unique(read_labels(voc / line.split()[1].lstrip("/"))):
            if 0 < label < VOID:
                holding.setdefault(int(label), []).append(line)
    rng = np.random.default_rng(SEED)
    drawn = [images[i] for images in holding.values() for i in rng.permutation(10 * DRAWS)[:DRAWS] % len(images)]
    write(out / "balanced.txt", [drawn[i] for i in rng.permutation(len(drawn))])
    write(out / "holdout.txt", held)


def features(voc: Path, start: Path, out: Path) -> None:
    """Write RUN/features.h5: what the frozen trunk makes of random crops, and their labels."""
    import h5py

    out.mkdir(parents=True, exist_ok=True)
    split(voc, out)
    net = Net(resource("prototxt", f"{FOLDER}/features.prototxt"), TRAIN, allow_paths=[voc, out], seed=SEED,
              variables={"DATA_ROOT": str(voc), "LIST": str(out / "balanced.txt")},
              keep=["features", "labels"])
    net.copy_from(start, allow_missing=True)
    rows = len((out / "balanced.txt").read_text(encoding="utf-8").splitlines())
    with atomic_path(out / "features.h5") as temporary, h5py.File(temporary, "w") as file:
        for begin in range(0, rows, net.blobs["labels"].shape[0]):
            net.forward()
            for name in ("features", "labels"):
                part = net.blobs[name].data[:rows - begin]
                if not begin:
                    file.create_dataset(name, (rows, *part.shape[1:]), np.float16)
                file[name][begin:begin + len(part)] = part
            if begin % 100 == 0:
                print(f"{begin}/{rows}", flush=True)
    write(out / "features.txt", [str(out / "features.h5")])


def newest(out: Path, stage: str) -> Path | None:
    """Return the stage's newest snapshot, None where there is none."""
    found = {int(match[1]): path for path in out.glob(f"{stage}_iter_*.solverstate*")
             if (match := re.fullmatch(rf"{stage}_iter_(\d+)\.solverstate(\.h5)?", path.name))}
    return found[max(found)] if found else None


def begin(net: Net, stage: str, start: Path | None, out: Path) -> None:
    """Fill a fresh net from the starting model; later stages also with what the stage before learned."""
    if start is None:
        raise ArgumentError(f"{stage} needs --start")
    net.copy_from(start, allow_missing=True)
    if stage == "head":
        return
    for layer in open_weights(start).layers:
        for blob, record in zip(net.params.get(TEACHER + layer.name, []), layer.blobs):
            blob.data[...] = record.load().reshape(blob.shape)
    before = {"scores": "head", "whole": "scores"}[stage]
    state = newest(out, before)
    if state is None:
        raise DataError(f"expected a snapshot of the stage {before!r}; run that first", str(out))
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


def train(stage: str, voc: Path | None, start: Path | None, out: Path) -> None:
    """Run one stage to its end, or until somebody interrupts it."""
    solver: Solver = get_solver(
        resource("prototxt", f"{FOLDER}/{SOLVERS[stage]}"), allow_paths=[out, *([voc] if voc else [])],
        variables={"DATA_ROOT": str(voc), "LIST": str(out / "balanced.txt"), "SNAPSHOTS": str(out),
                   "FEATURES": str(out / "features.txt")})
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


def ship(start: Path, weights: Path, target: Path) -> None:
    """Write the shipped weights; print what of the start is left in them."""
    net = Net(resource("prototxt", f"{FOLDER}/deploy.prototxt"), TEST)
    net.copy_from(weights, allow_missing=True)
    write_shipped(target, {name: [blob.data for blob in blobs] for name, blobs in net.params.items()})
    same, total, unchanged = compare(target, start)
    print(f"{target}: {target.stat().st_size:,} bytes from {weights.name}; {total:,} of its numbers have one at the "
          f"same place in the start, {same:,} of these ({same / total:.3%}) are equal in the precision shipped; "
          f"blobs that are wholly equal: {', '.join(unchanged) or 'none'}")


def write_shipped(target: Path, params: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write weights in half and biases in single precision: those are few, and their steps were small."""
    import h5py

    with atomic_path(target) as temporary, h5py.File(temporary, "w") as file:
        for name, blobs in params.items():
            for i, blob in enumerate(blobs):
                file.create_dataset(f"data/{name}/{i}", data=blob.astype(np.float16 if i == 0 else np.float32))


def compare(weights: Path, start: Path) -> tuple[int, int, list[str]]:
    """Compare blobs of the same layer and shape, in the precision in which `weights` has them.

    Returns
    -------
    same, total : int
        Numbers that are equal, and that were compared.
    unchanged : list of str
        Blobs that are equal as a whole, as ``layer[index]``.
    """
    old = {layer.name: layer.blobs for layer in open_weights(start).layers}
    same, total, unchanged = 0, 0, []
    for layer in open_weights(weights).layers:
        for i, (new, before) in enumerate(zip(layer.blobs, old.get(layer.name, ()))):
            equal = new.load().ravel() == before.load().ravel().astype(new.dtype)
            same, total = same + int(equal.sum()), total + equal.size
            if equal.all():
                unchanged.append(f"{layer.name}[{i}]")
    return same, total, unchanged


def plot(log: Path, target: Path) -> None:
    """Draw both stages' losses and accuracies, one behind the other."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps, shift, last = [], 0, ("", 0)
    for row in rows:
        if row["event"] != "iteration":
            continue
        if row["stage"] != last[0]:
            shift += last[1]
        last = (row["stage"], row["iteration"])
        steps.append((row["iteration"] + shift, row))

    def series(name: str, value: Callable[[dict], float]) -> list[Series]:
        xs, ys = [x for x, _ in steps], [value(row) for _, row in steps]
        runs = [sum(ys[max(0, i - 9):i + 1]) / len(ys[max(0, i - 9):i + 1]) for i in range(len(ys))]
        return [Series(name, xs, ys, faint=True), Series("mean of the last 10 rows", xs, runs)]

    panels = [Panel("loss against the labels", series("loss", lambda row: row["loss"][0])),
              Panel("loss against the starting model's scores", series("loss_soft", lambda row: row["loss_soft"][0])),
              Panel("pixel accuracy of the batch", series("accuracy", lambda row: row["accuracy"][0])),
              Panel("learning rate", [Series("rate", [x for x, _ in steps], [row["rate"] for _, row in steps])])]
    with atomic_write(target) as file:
        file.write(draw("Training of the embedded model: head, then every layer", panels).encode())


def main(argv: list[str] | None = None) -> int:
    """Run a stage; return the exit status."""
    parser = argparse.ArgumentParser(description="Train the embedded model on PASCAL VOC.")
    parser.add_argument("stage", choices=("features", *SOLVERS, "ship", "plot"))
    parser.add_argument("--voc", type=Path, help="VOC's folder")
    parser.add_argument("--start", type=Path, help="the starting model's caffemodel")
    parser.add_argument("--out", type=Path, required=True, help="folder of snapshots and log")
    parser.add_argument("--weights", type=Path, help="what to ship instead of the newest snapshot")
    options = parser.parse_args(argv)
    out = options.out.resolve()
    needed = {"plot": (), "features": ("voc", "start"), "whole": ("voc", "start")}.get(options.stage, ("start",))
    for name in needed:
        if getattr(options, name) is None:
            parser.error(f"{options.stage} needs --{name}")
    try:
        if options.stage == "ship":
            state = newest(out, "whole")
            if options.weights is None and state is None:
                raise DataError("expected a snapshot of the stage 'whole'; run that first", str(out))
            ship(options.start, options.weights or weights_of(state), SHIPPED)
        elif options.stage == "plot":
            plot(out / "log.jsonl", out / "curve.svg")
        else:
            voc, start = (path.resolve() if path else None for path in (options.voc, options.start))
            if options.stage == "features":
                features(voc, start, out)
            else:
                train(options.stage, voc, start, out)
    except AtrousCaffeError as error:
        print(f"train_embedded: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
