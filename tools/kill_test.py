#!/usr/bin/env python3
"""Kill a training run at random moments, resume it each time, and compare it with one never killed.

    python tools/kill_test.py --kills 20

A small net (shuffled HDF5 rows, dropout, momentum) is trained with a snapshot behind every iteration.
The run is killed with SIGKILL again and again, at a random moment after its first progress; after
each kill every snapshot file in the folder must be readable, and each next run goes on by
``--snapshot auto``. At the end the weights must be those of an undisturbed run, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from atrouscaffe.formats.solverstate import read_solverstate
from atrouscaffe.formats.weights import open_weights

NET = """name: "small"
layer { name: "rows" type: "HDF5Data" top: "data" top: "label"
        hdf5_data_param { source: "rows.txt" batch_size: 6 shuffle: true } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 24 kernel_size: 3 pad: 2 dilation: 2 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 200 weight_filler { type: "xavier" } } }
layer { name: "drop2" type: "Dropout" bottom: "ip" top: "ip" }
layer { name: "score" type: "InnerProduct" bottom: "ip" top: "score"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.001 lr_policy: "step" gamma: 0.5 stepsize: 40 momentum: 0.9
weight_decay: 0.001 max_iter: {iterations} snapshot: 1 snapshot_prefix: "snap" random_seed: 7 display: 1
snapshot_format: {form}
"""


def prepare(folder: Path, iterations: int, form: str) -> None:
    """Write net, solver and rows."""
    import h5py

    rng = np.random.default_rng(5)
    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("data", data=rng.normal(size=(26, 3, 17, 19)).astype(np.float32))
        file.create_dataset("label", data=rng.integers(0, 4, 26).astype(np.float32))
    (folder / "rows.txt").write_text("rows.h5\n")
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER.format(iterations=iterations, form=form))


def start(folder: Path) -> subprocess.Popen:
    """Start (or resume) training in `folder`."""
    package = Path(__file__).resolve().parent.parent
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen([sys.executable, "-m", "atrouscaffe", "train", "--solver", "solver.prototxt",
                             "--snapshot", "auto"], cwd=folder, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": path, "ATROUSCAFFE_NUM_THREADS": "1"})


def kill_at_random(process: subprocess.Popen, longest: float, rng: random.Random) -> bool:
    """Kill within `longest` seconds of the first iteration; False if the run ended before."""
    with process.stderr:
        for line in process.stderr:
            if "Iteration " in line:
                break
        time.sleep(rng.uniform(0, longest))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.stderr.read()
    return process.wait() == -signal.SIGKILL


def unreadable(folder: Path) -> list[str]:
    """Return the snapshot files that cannot be read, with the reason."""
    bad = []
    for path in sorted(folder.glob("snap_iter_*")):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif ".solverstate" in path.name:
                read_solverstate(path)
            else:
                for layer in open_weights(path).layers:
                    for blob in layer.blobs:
                        blob.load()
        except Exception as error:
            bad.append(f"{path.name}: {error}")
    return bad


def weights(folder: Path, iterations: int, form: str) -> list[np.ndarray]:
    """Return the arrays of the last snapshot."""
    name = f"snap_iter_{iterations}.caffemodel" + (".h5" if form == "HDF5" else "")
    return [blob.load() for layer in open_weights(folder / name).layers for blob in layer.blobs]


def finish(folder: Path) -> None:
    """Train to the end."""
    process = start(folder)
    _, text = process.communicate()
    if process.returncode:
        sys.exit(f"a run failed with status {process.returncode}: {text.splitlines()[-1:]}")


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; exit status 1 where something is unreadable or differs."""
    parser = argparse.ArgumentParser(description="Kill and resume a training run; compare with an undisturbed one.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--longest", type=float, default=0.3, help="seconds between first progress and kill (0.3)")
    parser.add_argument("--format", choices=("BINARYPROTO", "HDF5"), default="BINARYPROTO")
    parser.add_argument("--seed", type=int, help="of the moments; a fresh one by default")
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as killed:
        for folder in (Path(whole), Path(killed)):
            prepare(folder, options.iterations, options.format)
        finish(Path(whole))
        kills = 0
        while kills < options.kills:
            if not kill_at_random(start(Path(killed)), options.longest, rng):
                print(f"the run ended after {kills} kills; raise --iterations for more")
                break
            kills += 1
            bad = unreadable(Path(killed))
            done = len(list(Path(killed).glob("snap_iter_*.solverstate*"))) // 2
            print(f"kill {kills}: {done} snapshots, {len(bad)} unreadable files", flush=True)
            if bad:
                print("\n".join(bad))
                return 1
        finish(Path(killed))
        ours, theirs = (weights(Path(f), options.iterations, options.format) for f in (killed, whole))
        left = [path.name for path in Path(killed).glob(".*.tmp")]
    same = len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs))
    print(f"{kills} kills (seed {seed}): weights {'equal bit for bit' if same else 'DIFFER'}; "
          f"{len(left)} temporary files left")
    return 0 if same and not left and kills == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
