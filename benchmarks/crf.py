"""How long the CRF takes beside pydensecrf, with the same scores, parameters and normalisation.

Both run in turns, the peer in a process with its own Python (``--peer-python``, an environment with
pydensecrf2 or pydensecrf). Each of our runs begins without kept lattices, so building them is
included on both sides. Scores come from a net through `Segmenter` (``--scores`` takes saved ones:
ID.npz with ``scores``); 1080p is the first photograph, scaled, with its scores scaled alike. Without
a peer only our own figures are printed.
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
PARAMETERS = {"position": (3.0, 3.0), "bilateral": (121.0, 5.0, 4.0), "iterations": 10}

PEER = """
import json, resource, sys, time
import numpy as np
import pydensecrf.densecrf as dcrf
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    data = np.load(job["input"])
    unary, image = data["unary"], data["image"]
    labels, height, width = unary.shape
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, cpu = time.perf_counter(), time.process_time()
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary.reshape(labels, -1))
    crf.addPairwiseGaussian(sxy=job["position"][0], compat=job["position"][1], kernel=dcrf.DIAG_KERNEL,
                            normalization=dcrf.NORMALIZE_AFTER)
    crf.addPairwiseBilateral(sxy=job["bilateral"][0], srgb=job["bilateral"][1], rgbim=image, compat=job["bilateral"][2],
                             kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_AFTER)
    q = np.array(crf.inference(job["iterations"]))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if job["output"]:
        np.save(job["output"], q.reshape(unary.shape))
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_kb": peak - base}), flush=True)
"""


class Worker:
    """A process that runs jobs given as lines of JSON."""

    def __init__(self, python: str, code: str) -> None:
        self.process = subprocess.Popen([python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{python} cannot run the job; is pydensecrf2 installed there?")

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


OURS = f"""
import json, resource, sys, time
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.crf.features import clear_lattices
from atrouscaffe.runtime.threads import set_num_threads
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    data = np.load(job["input"])
    unary, image = data["unary"], data["image"]
    set_num_threads(job["threads"])
    clear_lattices()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, cpu = time.perf_counter(), time.process_time()
    crf = DenseCRF(unary).add_gaussian(*job["position"])
    crf.add_bilateral(image, *job["bilateral"])
    built = time.perf_counter()
    result = crf.infer(job["iterations"], exact=job["exact"])
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if job["output"]:
        np.save(job["output"], result.probabilities)
    print(json.dumps({{"seconds": seconds, "cpu": cpu, "peak_kb": peak - base, "lattices": built - begin,
                       "pruned": len(result.pruned), "error_bound": result.error_bound,
                       "vertices": [k.lattice.vertices for k in crf.kernels],
                       "rows": [int(k.lattice.named.size) for k in crf.kernels]}}), flush=True)
"""


def scores_of(ident: str, folder: Path, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return (image RGB, scores (21, H, W)) of a photograph."""
    from atrouscaffe.data.image import read_image

    image = read_image(folder / "voc" / "JPEGImages" / f"{ident}.jpg")
    if args.scores:
        with np.load(Path(args.scores) / f"{ident}.npz") as data:
            return np.ascontiguousarray(image[:, :, ::-1]), data["scores"]
    from atrouscaffe import Segmenter

    models = folder / "models" / "deeplabv3_mnv2"
    segmenter = Segmenter(models / "deploy_513_relu6.prototxt", models / "deeplabv3_mnv2_dm05_voc.caffemodel")
    return np.ascontiguousarray(image[:, :, ::-1]), segmenter(image).scores


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


def bytes_moved(shape: tuple[int, ...], one: dict[str, Any], width: int) -> int:
    """Return the bytes of one iteration that no cache can hold: logits, taps, and vertices once each way."""
    points = shape[1] * shape[2]
    rows, vertices = sum(one["rows"]), sum(one["vertices"])
    return points * (4 * width + 8 * 9 + 16) + 4 * width * (2 * rows + rows + vertices * (1 + 2))


def first_call() -> dict[str, float]:
    """Return seconds of the first call in a fresh process, with an empty and with a filled cache."""
    code = ("import sys, time; sys.path.insert(0, sys.argv[1]); import numpy as np; t = time.perf_counter()\n"
            "from atrouscaffe.crf.densecrf import DenseCRF\n"
            "u = np.random.default_rng(0).uniform(0, 4, (21, 40, 50))\n"
            "im = np.zeros((40, 50, 3), np.uint8)\n"
            "DenseCRF(u).add_gaussian(3, 3).add_bilateral(im, 121, 5, 4).infer(2)\n"
            "print(time.perf_counter() - t, time.process_time())")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"ATROUSCAFFE_CACHE_DIR": folder}
        runs = [subprocess.run([sys.executable, "-c", code, str(ROOT)], env=environment, check=True,
                               capture_output=True, text=True).stdout.split() for _ in range(2)]
    names = ("cold_s", "cold_cpu_s", "cached_s", "cached_cpu_s")
    return dict(zip(names, (float(number) for run in runs for number in run)))


def compare(ours: np.ndarray, peers: np.ndarray) -> dict[str, float]:
    """Return how far two sets of marginals agree."""
    apart = np.abs(ours - peers)
    return {"same_labels": float((ours.argmax(axis=0) == peers.argmax(axis=0)).mean()),
            "within_1e-3": float((apart <= 1e-3).mean()), "largest": float(apart.max())}


def race(case: dict[str, Any], workers: dict[str, Worker], repeats: int) -> dict[str, Any]:
    """Run all variants in turns; return medians and agreement."""
    variants = {"peer": {}} if "peer" in workers else {}
    variants |= {f"{kind}, {threads} thread{'s' * (threads > 1)}": {"exact": kind == "exact", "threads": threads}
                 for kind in ("pruned", "exact") for threads in (1, 2)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "input.npz", unary=case["unary"], image=case["image"])
        for repeat in range(repeats + 1):
            for name, options in variants.items():
                output = str(Path(folder) / f"{name}.npy") if repeat == 0 else ""
                job = PARAMETERS | {"input": str(Path(folder) / "input.npz"), "output": output} | options
                one = workers["peer" if name == "peer" else "ours"].run(job)
                if repeat:  # the first one warms up and is compared
                    runs[name].append(one)
        row: dict[str, Any] = {"case": case["name"], "shape": list(case["unary"].shape)}
        for name, found in runs.items():
            row[name] = {key: statistics.median(one[key] for one in found) for key in ("seconds", "cpu", "peak_kb")}
            known = ("pruned", "error_bound", "vertices", "rows")
            row[name] |= {key: found[0][key] for key in known if key in found[0]}
            if "lattices" in found[0]:
                row[name]["lattices"] = statistics.median(one["lattices"] for one in found)
            if "peer" in variants and name != "peer":
                row[name]["ratio"] = row[name]["seconds"] / row["peer"]["seconds"]
                row[name]["cpu_ratio"] = row[name]["cpu"] / row["peer"]["cpu"]
                row[name] |= compare(np.load(Path(folder) / f"{name}.npy"), np.load(Path(folder) / "peer.npy"))
    return row


def show(row: dict[str, Any]) -> None:
    """Print the rows of one case."""
    for name, one in row.items():
        if not isinstance(one, dict):
            continue
        text = f"{row['case']:<28} {name:<18} {one['seconds']:7.3f} s  cpu {one['cpu']:7.3f} s"
        if "ratio" in one:
            text += (f"  ratio {one['ratio']:.3f} (cpu {one['cpu_ratio']:.3f})  labels {100 * one['same_labels']:.3f} %"
                     f"  |dQ|<=1e-3 {100 * one['within_1e-3']:.3f} %  max {one['largest']:.1e}")
        if "lattices" in one:
            text += f"  lattices {one['lattices']:.3f} s"
        print(text, flush=True)


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
    workers = {"ours": Worker(sys.executable, OURS)}
    if args.peer_python:
        workers["peer"] = Worker(args.peer_python, PEER)
    host = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0],
            "python": platform.python_version(), "numpy": np.__version__}
    report: dict[str, Any] = {"host": host, "parameters": PARAMETERS, "copy_gb_per_s": bandwidth(),
                              "first_call": first_call(),
                              "rows": []}
    print(f"copy {report['copy_gb_per_s']:.1f} GB/s; first call {report['first_call']['cold_s']:.1f} s cold, "
          f"{report['first_call']['cached_s']:.2f} s cached (cpu of the whole process: "
          f"{report['first_call']['cold_cpu_s']:.1f} and {report['first_call']['cached_cpu_s']:.2f} s)")
    for number, ident in enumerate(args.ids):
        image, scores = scores_of(ident, Path(args.data), args)
        cases = [("-score", -scores, image), ("clipped at 1e-5", clipped(scores, 1e-5), image)]
        if number == 0 and args.large_repeats:
            wide_image, wide_scores = large(image, scores)
            cases.append(("1080p", -wide_scores, wide_image))
        for kind, unary, picture in cases:
            case = {"name": f"{ident} {kind}", "unary": np.ascontiguousarray(unary, np.float32), "image": picture}
            row = race(case, workers, args.large_repeats if kind == "1080p" else args.repeats)
            one = row["exact, 1 thread"]
            row["mb_per_iteration"] = bytes_moved(case["unary"].shape, one, 24) / 1e6
            row["gb_per_s"] = row["mb_per_iteration"] / 1e3 * (PARAMETERS["iterations"] + 1) / (
                one["seconds"] - one["lattices"])
            show(row)
            report["rows"].append(row)
    for worker in workers.values():
        worker.close()
    Path(args.out).parent.mkdir(exist_ok=True)
    Path(args.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
