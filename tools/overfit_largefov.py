#!/usr/bin/env python3
"""Train DeepLab-LargeFOV from msra fillers on a few photographs until it knows them by heart, then its MSc sibling.

    python tools/overfit_largefov.py --voc ../shared/data/voc --out overfit

A test of the whole training path: if backward, data layer, update or loss were wrong, a net could
not learn eight photographs almost without fault. The nets are those of prototxt/, with a quarter of
the channels (--width) and msra instead of the missing VGG-16 weights. The score is the mean IoU over
the classes that occur, on the centre crops, at the loss's own resolution (41x41). Afterwards
DeepLab-MSc-LargeFOV starts from these weights with its trunk frozen, as in the paper, and must lower
the loss further.

Everything is written below --out: nets, solvers, snapshots, a log (JSON lines) and a chart (SVG) for
each stage, and result.json. A run that is called again goes on from its newest snapshot.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrouscaffe import TEST, Net, get_solver
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.fields import net_record, net_spec
from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.formats.record import Record
from atrouscaffe.metrics import ConfusionMatrix
from atrouscaffe.pipeline.trainlog import TrainLog, write_chart
from atrouscaffe.resources import resource
from atrouscaffe.solver import snapshot as snapshots
from atrouscaffe.solver.solver import Solver
from atrouscaffe.spec import NetSpec

SOLVER = """train_net: "{folder}/train.prototxt"
type: "Adam" base_lr: {rate} momentum: 0.9 momentum2: 0.999 weight_decay: 0
lr_policy: "poly" power: 0.9 max_iter: {iterations}
average_loss: 10 display: 20 clip_gradients: 10
snapshot: 50 snapshot_prefix: "{folder}/snap" random_seed: 1
"""


@dataclass(frozen=True)
class Stage:
    """One of the two runs: folder under prototxt/, blob with the scores, learning rate, iterations."""

    model: str
    scores: str
    rate: float
    iterations: int


def edit(net: NetSpec, options: argparse.Namespace, listing: Path, *, testing: bool) -> NetSpec:
    """Return the net with fewer channels, msra fillers, and the photographs as its data."""
    record = net_record(net)
    for layer in record.get("layer", []):
        if layer.get("type") == "Convolution":
            narrow(layer, options.width)
        elif layer.get("type") == "ImageSegData":
            image, transform = layer.get("image_data_param"), layer.get("transform_param")
            image.values.update(source=str(listing), batch_size=1 if testing else options.batch, shuffle=not testing)
            # The classifier of untrained weights is blind to inputs of hundreds: bring them near 1.
            transform.values.update(mirror=False, scale=0.017)
            layer.values.pop("include", None)
        elif testing and layer.get("type") == "SoftmaxWithLoss":
            layer.values.pop("include", None)
    return net_spec(record, net.dialect, net.path)


def narrow(layer: Record, width: float) -> None:
    """Reduce a convolution's channels and start it from msra; classifiers keep their form."""
    options = layer.get("convolution_param")
    if layer.get("name").startswith("fc8") or layer.get("name").endswith("_ms"):
        options.values["weight_filler"] = Record("FillerParameter", {"type": "gaussian", "std": 0.01})
        return
    options.values["num_output"] = max(1, round(options.get("num_output") * width))
    options.values["weight_filler"] = Record("FillerParameter", {"type": "msra"})


def prepare(stage: Stage, options: argparse.Namespace) -> tuple[Solver, Net, Path]:
    """Write a stage's nets and solver; return solver, net for scores, and folder."""
    folder = (options.out / stage.model).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "photographs.txt"
    lines = (options.voc / "list/train.txt").read_text().splitlines()[:options.images]
    listing.write_text("\n".join(lines) + "\n")
    variables = {"DATA_ROOT": str(options.voc.resolve()), "EXP": "voc12", "TRAIN_SET": "train", "NET_ID": stage.model,
                 "NUM_LABELS": "21"}
    net = read_net(resource("prototxt", f"{stage.model}/train.prototxt"), variables=variables)
    from atrouscaffe.formats.prototxt import write_net

    (folder / "train.prototxt").write_text(write_net(edit(net, options, listing, testing=False)))
    (folder / "solver.prototxt").write_text(SOLVER.format(folder=folder, rate=stage.rate, iterations=stage.iterations))
    allowed = [options.voc.resolve(), folder]
    solver = get_solver(folder / "solver.prototxt", allow_paths=allowed)
    scorer = Net(edit(net, options, listing, testing=True), TEST, allow_paths=allowed)
    scorer.share_with(solver.net)
    return solver, scorer, folder


def score(net: Net, blob: str, images: int) -> tuple[float, float]:
    """Return mean IoU over the classes that occur, and the mean loss, both on centre crops."""
    matrix, losses = ConfusionMatrix(21, 255), []
    for _ in range(images):
        net.forward()
        truth = net.blobs["label_shrink"].data[0, 0].astype(np.int64)
        matrix.update(truth, net.blobs[blob].data[0].argmax(0))
        losses.append(net.loss)
    counts = matrix.counts.astype(float)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    present = counts.sum(1) > 0
    return float((np.diag(counts) / np.maximum(union, 1))[present].mean()), float(np.mean(losses))


def run(stage: Stage, options: argparse.Namespace, start: Path | None) -> tuple[Path, dict[str, float]]:
    """Train one stage, from `start` if it is given; return its last weights and what it reached."""
    solver, scorer, folder = prepare(stage, options)
    journal = TrainLog(folder / "log.jsonl")
    found = snapshots.newest(snapshots.prefix(solver), print)
    if found:
        solver.restore(found)
    elif start is not None:
        solver.net.copy_from(start, allow_missing=True)
    journal.write({"kind": "start", "iteration": solver.iter, "net": stage.model})
    solver.listeners.append(journal.event)
    best: dict[str, float] = {}
    while True:
        began = time.perf_counter()
        iou, loss = score(scorer, stage.scores, options.images)
        reached = {"iteration": solver.iter, "mean_iou": iou, "loss": loss}
        best = best or {"first_loss": loss}
        journal.write({"kind": "test", "iteration": solver.iter, "net": 0,
                       "outputs": {"mean_iou": [iou], "centre_loss": [loss]}})
        write_chart(journal.path, folder / "chart.svg", stage.model, {"loss", "centre_loss"})
        print(f"{stage.model} {solver.iter}/{stage.iterations}: mean IoU {iou:.4f}, loss {loss:.4f}, "
              f"scored in {time.perf_counter() - began:.1f} s", flush=True)
        done = start is None and iou >= options.target
        if done or solver.iter >= stage.iterations:
            break
        solver.step(min(25, stage.iterations - solver.iter))
    state = Path(solver.snapshot())
    journal.close()
    return state.with_suffix(".caffemodel"), {**best, **reached}


def main(argv: list[str] | None = None) -> int:
    """Run both stages; exit status 1 where one of them falls short."""
    parser = argparse.ArgumentParser(description="Overfit DeepLab-LargeFOV and its MSc sibling on a few photographs.")
    parser.add_argument("--voc", type=Path, required=True, help="folder with JPEGImages, SegmentationClass and list/")
    parser.add_argument("--out", type=Path, default=Path("overfit"), help="folder for everything that is written")
    parser.add_argument("--images", type=int, default=8, help="photographs from the head of list/train.txt (8)")
    parser.add_argument("--width", type=float, default=0.25, help="share of the channels that is kept (0.25)")
    parser.add_argument("--batch", type=int, default=4, help="photographs an iteration (4)")
    parser.add_argument("--rate", type=float, default=5e-4, help="base learning rate of Adam (0.0005)")
    parser.add_argument("--iterations", type=int, default=1200, help="at most (1200)")
    parser.add_argument("--msc-iterations", type=int, default=150, help="for the MSc sibling (150)")
    parser.add_argument("--target", type=float, default=0.92, help="mean IoU at which the first stage ends (0.92)")
    options = parser.parse_args(argv)
    weights, first = run(Stage("deeplab-largefov", "fc8_voc12", options.rate, options.iterations), options, None)
    _, second = run(Stage("deeplab-msc-largefov", "fc_fusion", options.rate, options.msc_iterations), options, weights)
    result = {"deeplab-largefov": first, "deeplab-msc-largefov": second}
    with atomic_write(options.out / "result.json") as file:
        file.write(json.dumps(result, indent=1).encode())
    print(json.dumps(result, indent=1))
    return 0 if first["mean_iou"] >= 0.9 and second["loss"] < first["loss"] else 1


if __name__ == "__main__":
    sys.exit(main())
