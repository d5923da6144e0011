"""How long the CRF takes beside pydensecrf, with the same scores, parameters and normalisation.

Both run in turns, the peer in a process with its own Python (``--peer-python``, an environment with
pydensecrf2 or pydensecrf). Each of our runs begins without kept lattices, so building them is
included on both sides. Scores come from a net through `Segmenter` (``--scores`` takes saved ones:
ID.npz with ``scores``); 1080p is the first photograph, scaled, with its scores scaled alike. Peak
memory is that of a fresh process that runs the one job. Without a peer only our own figures are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a checkout need not be installed
WORKER = Path(__file__).with_name("crf_worker.py")
PARAMETERS = {"position": (3.0, 3.0), "bilateral": (121.0, 5.0, 4.0), "iterations": 10}
VARIANTS = {f"{kind}, {threads} thread{'s' * (threads > 1)}": {"exact": kind == "exact", "threads": threads}
            for kind in ("pruned", "exact") for threads in (1, 2)}


class Worker:
    """A process that runs jobs."""

    def __init__(self, python: str, side: str) -> None:
        self.process = subprocess.Popen([python, str(WORKER), side], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{python} cannot run the job; is pydensecrf2 installed there?")

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one job; return what it answers."""
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("the process of a job ended before it answered")
        return json.loads(answer)

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def scores_of(ident: str, folder: Path, saved: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (image RGB, scores (21, H, W)) of a photograph."""
    from atrouscaffe.data.image import read_image

    image = read_image(folder / "voc" / "JPEGImages" / f"{ident}.jpg")
    if saved:
        with np.load(Path(saved) / f"{ident}.npz") as data:
            return np.ascontiguousarray(image[:, :, ::-1]), data["scores"]
    from atrouscaffe import Segmenter

    models = folder / "models" / "deeplabv3_mnv2"
    segmenter = Segmenter(models / "deploy_513_relu6.prototxt", models / "deeplabv3_mnv2_dm05_voc.caffemodel")
    return np.ascontiguousarray(image[:, :, ::-1]), segmenter.scores(image)


def clipped(scores: np.ndarray, clip: float) -> np.ndarray:
    """Return -log of the softmax, clipped from below as pydensecrf's helper does."""
    p = np.exp(scores - scores.max(axis=0))
    return -np.log(np.maximum(p / p.sum(axis=0), clip)).astype(np.float32)


def large(image: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return image and scores scaled to 1920 x 1080."""
    from atrouscaffe.data.image import resize_image

    planes = [resize_image(np.ascontiguousarray(plane), 1080, 1920) for plane in scores]
    return resize_image(image, 1080, 1920), np.stack(planes)


def bandwidth() -> float:
    """Return how many bytes a second one core copies (read and write), in GB."""
    source, target = np.ones(2**25, np.float32), np.empty(2**25, np.float32)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - begin)
    return 2 * source.nbytes / min(times) / 1e9


def bytes_moved(shape: list[int], one: dict[str, Any]) -> dict[str, float]:
    """Return the MB that each step of one iteration must move if no value stays in a cache between two steps."""
    from atrouscaffe.crf.lattice import padded_lanes

    labels, points = shape[0], shape[1] * shape[2]
    lanes, blocks = padded_lanes(labels - one["pruned"] + (one["pruned"] > 0))
    row = 4 * lanes * blocks
    pairs = list(zip(one["taps"], one["rows"], one["vertices"]))
    merge = sum(rows * (row + 4) + vertices * (row + 4) for _, rows, vertices in pairs)
    blur = sum(taps // 2 * 2 * vertices * (2 * row + 8) for taps, _, vertices in pairs)
    each = 4 * (labels - one["pruned"]) + 4 * (one["pruned"] > 0) + sum(6 * taps - 4 + 4 for taps in one["taps"])
    step = points * each + sum(vertices * row + rows * (row + 4) for _, rows, vertices in pairs)
    return {"merge copies": merge / 1e6, "blur": blur / 1e6, "passes: slice, update, splat": step / 1e6}


def first_call() -> dict[str, float]:
    """Return seconds of the import and of the first two calls in a fresh process, with an empty and a filled cache."""
    code = ("import sys, time; sys.path.insert(0, sys.argv[1]); import numpy as np; t = [time.perf_counter()]\n"
            "from atrouscaffe.crf.densecrf import DenseCRF\n"
            "t.append(time.perf_counter())\n"
            "u = np.random.default_rng(0).uniform(0, 4, (21, 40, 50))\n"
            "for _ in range(2):\n"
            "    im = np.full((40, 50, 3), _, np.uint8)\n"
            "    DenseCRF(u).add_gaussian(3 + _, 3).add_bilateral(im, 121, 5, 4).infer(2)\n"
            "    t.append(time.perf_counter())\n"
            "print(*np.diff(t))")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"ATROUSCAFFE_CACHE_DIR": folder}
        for state in ("cold", "cached"):
            text = subprocess.run([sys.executable, "-c", code, str(ROOT)], env=environment, check=True,
                                  capture_output=True, text=True).stdout
            found |= dict(zip((f"{state}_import_s", f"{state}_first_s", f"{state}_second_s"), map(float, text.split())))
    return found


def compare(ours: np.ndarray, peers: np.ndarray) -> dict[str, float]:
    """Return how far two sets of marginals agree."""
    apart = np.abs(ours - peers)
    return {"same_labels": float((ours.argmax(axis=0) == peers.argmax(axis=0)).mean()),
            "within_1e-3": float((apart <= 1e-3).mean()), "largest": float(apart.max())}


def peak(python: str, side: str, job: dict[str, Any]) -> float:
    """Return the peak memory of a fresh process that runs one job, in MB."""
    worker = Worker(python, side)
    try:
        return worker.run(job)["peak_mb"]
    finally:
        worker.close()


def race(case: dict[str, Any], pythons: dict[str, str], workers: dict[str, Worker], repeats: int) -> dict[str, Any]:
    """Run all variants in turns; return medians, agreement, stages and peaks."""
    variants = ({"peer": {}} if "peer" in workers else {}) | VARIANTS
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    row: dict[str, Any] = {"case": case["name"], "shape": list(case["unary"].shape)}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "unary.npy", case["unary"])
        np.save(Path(folder) / "image.npy", case["image"])
        jobs = {name: PARAMETERS | {"input": folder} | options for name, options in variants.items()}
        side = {name: "peer" if name == "peer" else "ours" for name in variants}
        for repeat in range(repeats + 1):
            for name, job in jobs.items():
                output = {"output": str(Path(folder) / f"{name}.npy")} if repeat == 0 else {}
                one = workers[side[name]].run(job | output)
                if repeat:  # the first one warms up and is compared
                    runs[name].append(one)
        for name, found in runs.items():
            row[name] = found[0] | {key: statistics.median(one[key] for one in found) for key in ("seconds", "cpu")}
            row[name] |= {"fastest": min(one["seconds"] for one in found),
                          "peak_mb": peak(pythons[side[name]], side[name], jobs[name])}
            if name == "peer":
                continue
            timed = [workers["ours"].run(jobs[name] | {"stages": True}) for _ in range(3)]
            row[name]["stages"] = min(timed, key=lambda one: one["seconds"])["stages"]
            row[name]["mb_per_iteration"] = bytes_moved(row["shape"], row[name])
            if "peer" in row:
                row[name] |= {"ratio": row[name]["seconds"] / row["peer"]["seconds"],
                              "cpu_ratio": row[name]["cpu"] / row["peer"]["cpu"],
                              "peak_ratio": row[name]["peak_mb"] / row["peer"]["peak_mb"]}
                row[name] |= compare(np.load(Path(folder) / f"{name}.npy"), np.load(Path(folder) / "peer.npy"))
    return row


def show(row: dict[str, Any], copy: float) -> None:
    """Print the rows of one case, and the stages of our variants."""
    ours = {name: one for name, one in row.items() if isinstance(one, dict)}
    for name, one in ours.items():
        text = (f"{row['case']:<28} {name:<18} {one['seconds']:7.3f} s  cpu {one['cpu']:7.3f} s  "
                f"peak {one['peak_mb']:6.0f} MB")
        if "ratio" in one:
            text += (f"  ratio {one['ratio']:.3f} (cpu {one['cpu_ratio']:.3f}, peak {one['peak_ratio']:.3f})  "
                     f"labels {100 * one['same_labels']:.3f} %  |dQ|<=1e-3 {100 * one['within_1e-3']:.3f} %  "
                     f"max {one['largest']:.1e}")
        print(text)
    ours.pop("peer", None)
    print(f"  {'stage, ms':<30}" + "".join(f"{name:>20}" for name in ours) + "    MB an iteration, GB/s, of a copy's")
    for stage in next(iter(ours.values()))["stages"]:
        text = f"  {stage:<30}" + "".join(f"{1e3 * one['stages'].get(stage, 0):20.1f}" for one in ours.values())
        single = ours["exact, 1 thread"]
        if stage in single["mb_per_iteration"]:
            moved = single["mb_per_iteration"][stage]
            times = PARAMETERS["iterations"] - (stage.startswith("passes"))
            speed = moved * times / 1e3 / single["stages"][stage]
            text += f"    {moved:8.1f} {speed:8.1f} {100 * speed / copy:6.0f} %  (exact, 1 thread)"
        print(text)
    print(flush=True)


def main() -> None:
    """Run the benchmark, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--ids", nargs="+", default=["2007_000033", "2007_000727", "2007_000830", "2007_000999"])
    parser.add_argument("--scores", help="folder with ID.npz in place of the net")
    parser.add_argument("--peer-python", help="python of an environment with pydensecrf2")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--large-repeats", type=int, default=3, help="of 1080p; 0 leaves it out")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "crf.json"))
    args = parser.parse_args()
    pythons = {"ours": sys.executable} | ({"peer": args.peer_python} if args.peer_python else {})
    workers = {side: Worker(python, side) for side, python in pythons.items()}
    host = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0],
            "python": platform.python_version(), "numpy": np.__version__}
    first, copy = first_call(), bandwidth()
    report: dict[str, Any] = {"host": host, "parameters": PARAMETERS, "copy_gb_per_s": copy, "first_call": first,
                              "rows": []}
    print(f"copy {copy:.1f} GB/s")
    for state in ("cold", "cached"):
        print(f"compiled functions {state}: import {first[f'{state}_import_s']:.2f} s, first call "
              f"{first[f'{state}_first_s']:.2f} s, second {first[f'{state}_second_s']:.3f} s")
    for number, ident in enumerate(args.ids):
        image, scores = scores_of(ident, Path(args.data), args.scores)
        cases = [("-score", -scores, image), ("clipped at 1e-5", clipped(scores, 1e-5), image)]
        if number == 0 and args.large_repeats:
            wide_image, wide_scores = large(image, scores)
            cases.append(("1080p", -wide_scores, wide_image))
        for kind, unary, picture in cases:
            case = {"name": f"{ident} {kind}", "unary": np.ascontiguousarray(unary, np.float32), "image": picture}
            row = race(case, pythons, workers, args.large_repeats if kind == "1080p" else args.repeats)
            show(row, copy)
            report["rows"].append(row)
    for worker in workers.values():
        worker.close()
    Path(args.out).parent.mkdir(exist_ok=True)
    Path(args.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
