"""How long the CRF takes on a CUDA device beside the CPU's with all cores, and how far the two agree.

Lattices are built anew for every run, as in a stream of images (the position lattice of a size is kept,
on both sides). Times are wall time with the device synchronised, medians of ``--repeats`` runs behind
one that warms up; "host to host" has the copies of energies and beliefs, "on the device" starts from
scores there and ends with labels there, which is what `Segmenter.stream` does. Scores come from the
embedded model, or from ``--scores``: NAME.npz with ``scores`` for IMAGE of that name. Without images one is
made up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a checkout need not be installed
CLIP = 1e-5


def made_up(size: tuple[int, int], labels: int = 21) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of soft discs with noise, RGB, and scores that blur their outlines."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:size[0], :size[1]]
    image = np.full((*size, 3), 110.0) + np.stack([x, y, x + y], axis=-1) * 60 / max(size)
    scores = np.full((labels, *size), -2.0)
    scores[0] = 2
    for _ in range(12):
        centre, radius = random.uniform(0, 1, 2) * size, random.uniform(0.05, 0.2) * max(size)
        inside = radius - np.hypot(y - centre[0], x - centre[1])
        image += np.clip(inside, 0, 1)[..., None] * (random.uniform(0, 255, 3) - image)
        scores[random.integers(1, labels)] += 8 / (1 + np.exp(-inside / 12)) - 2
    image += random.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), scores.astype(np.float32)


def cases(args: argparse.Namespace) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return (name, image RGB, scores (21, H, W)) of every picture."""
    if not args.images:
        return [("made up", *made_up(tuple(args.size)))]
    from atrouscaffe import Segmenter
    from atrouscaffe.data.image import read_image

    found, segmenter = [], None if args.scores else Segmenter()
    for path in map(Path, args.images):
        image = read_image(path)
        if segmenter is None:
            with np.load(Path(args.scores) / f"{path.stem}.npz") as data:
                scores = data["scores"]
        else:
            scores = segmenter(image).scores
        found.append((path.name, np.ascontiguousarray(image[:, :, ::-1]), scores))
    return found


def energies_of(scores: np.ndarray) -> np.ndarray:
    """Return -log of the softmax, clipped as `refine` does."""
    p = np.exp(scores - scores.max(axis=0))
    return -np.log(np.maximum(p / p.sum(axis=0), CLIP)).astype(np.float32)


def median(work: Callable[[], Any], repeats: int, end: Callable[[], Any] = lambda: None) -> float:
    """Return the median of the seconds that `work` takes, once warm."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        end()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def measure(image: np.ndarray, scores: np.ndarray, backend: Any, repeats: int) -> dict[str, Any]:
    """Return the times of one picture, and how far CPU and device agree."""
    from atrouscaffe.crf.densecrf import DenseCRF, refine_on_device
    from atrouscaffe.crf.features import clear_lattices
    from atrouscaffe.crf.presets import preset

    energies, values = energies_of(scores), preset("paper")

    def on_cpu() -> Any:
        clear_lattices()
        return DenseCRF(energies).add_preset(image, values).infer(values.iterations)

    def host_to_host() -> Any:
        return DenseCRF(energies, device=backend).add_preset(image, values).infer(values.iterations)

    with backend.active():
        there, picture = backend.asarray(scores), backend.asarray(image)
        built: Any = DenseCRF(energies, device=backend).add_preset(picture, values)
        done = backend.synchronize
        row = {
            "cpu_s": median(on_cpu, repeats),
            "host_to_host_s": median(host_to_host, repeats, done),
            "on_device_s": median(lambda: refine_on_device(picture, there, {}, backend, labels=True), repeats, done),
            "lattice_s": median(lambda: built._lattice_of_image(picture, (121.0,) * 2, (5.0,) * 3), repeats, done),
            "iterations_s": median(lambda: built.best_labels(values.iterations), repeats, done)
            - median(lambda: built.best_labels(0), repeats, done),
            "vertices": [kernel.lattice.vertices for kernel in built.kernels],
        }
    ours, theirs = host_to_host(), on_cpu()
    return row | {"same_labels": float((ours.labels == theirs.labels).mean()),
                  "largest_difference": float(np.abs(ours.probabilities - theirs.probabilities).max()),
                  "times_faster": row["cpu_s"] / row["on_device_s"]}


def main() -> int:
    """Measure every picture, print a line each, and write all as JSON; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*")
    parser.add_argument("--scores", help="folder of NAME.npz with 'scores'")
    parser.add_argument("--size", nargs=2, type=int, default=[375, 500], metavar=("H", "W"), help="of the made-up one")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", help="JSON (benchmarks/results/crf-device.json)",
                        default=str(ROOT / "benchmarks" / "results" / "crf-device.json"))
    args = parser.parse_args()
    from atrouscaffe.runtime.backend import get_backend
    from atrouscaffe.runtime.cuda import probe
    from atrouscaffe.runtime.threads import num_threads

    found = probe()
    if found.state != "ready":
        print(f"benchmarks/crf_device.py: {found.message}", file=sys.stderr)
        return 2
    backend = get_backend(args.device)
    rows = []
    for name, image, scores in cases(args):
        row = {"image": name, "shape": list(scores.shape)} | measure(image, scores, backend, args.repeats)
        rows.append(row)
        print(f"{name}: cpu {1e3 * row['cpu_s']:.2f} ms, on the device {1e3 * row['on_device_s']:.2f} ms (lattice "
              f"{1e3 * row['lattice_s']:.2f}, iterations {1e3 * row['iterations_s']:.2f}; host to host "
              f"{1e3 * row['host_to_host_s']:.2f}), {row['times_faster']:.1f} times faster, labels "
              f"{100 * row['same_labels']:.3f} % alike, |dQ| <= {row['largest_difference']:.1e}", flush=True)
    report = {"device": backend.device_name, "threads": num_threads(), "machine": platform.machine(),
              "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"), "rows": rows}
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
