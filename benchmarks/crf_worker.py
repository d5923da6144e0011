"""One side of `benchmarks/crf.py`: runs jobs given as lines of JSON, ours or pydensecrf's.

``python crf_worker.py ours|peer`` answers each line with a line. Of this project the peer's side imports
nothing, so that it runs in an environment of its own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def peak_mb() -> float:
    """Return the largest resident size of this process so far, in MB.

    ``VmHWM``, because what ``getrusage`` tells is never below the size of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def load(job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return (unary, image) of a job."""
    folder = Path(job["input"])
    return np.load(folder / "unary.npy"), np.load(folder / "image.npy")


def peer(job: dict[str, Any], unary: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Run pydensecrf."""
    import pydensecrf.densecrf as dcrf

    labels, height, width = unary.shape
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary.reshape(labels, -1))
    crf.addPairwiseGaussian(sxy=job["position"][0], compat=job["position"][1], kernel=dcrf.DIAG_KERNEL,
                            normalization=dcrf.NORMALIZE_AFTER)
    crf.addPairwiseBilateral(sxy=job["bilateral"][0], srgb=job["bilateral"][1], rgbim=image, compat=job["bilateral"][2],
                             kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_AFTER)
    return np.array(crf.inference(job["iterations"])).reshape(unary.shape), {}


def ours(job: dict[str, Any], unary: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Run this project's CRF."""
    from atrouscaffe.crf.densecrf import DenseCRF
    from atrouscaffe.crf.features import clear_lattices
    from atrouscaffe.runtime.threads import set_num_threads

    set_num_threads(job["threads"])
    clear_lattices()
    crf = DenseCRF(unary).add_gaussian(*job["position"]).add_bilateral(image, *job["bilateral"])
    result = crf.infer(job["iterations"], exact=job["exact"])
    lattices = [kernel.lattice for kernel in crf.kernels]
    return result.probabilities, {
        "pruned": len(result.pruned), "error_bound": result.error_bound, "taps": [x.dims + 1 for x in lattices],
        "vertices": [x.vertices for x in lattices], "rows": [int(x.named.size) for x in lattices]}


@contextlib.contextmanager
def stopwatch(seconds: dict[str, float]) -> Iterator[None]:
    """Add up how long each stage of our CRF takes."""
    from atrouscaffe.crf import features, lattice, meanfield

    def timed(owner: Any, name: str, stage: str) -> None:
        plain = vars(owner)[name]

        @functools.wraps(plain)
        def wrapper(*args: Any, **options: Any) -> Any:
            if busy:  # part of a stage that is timed
                return plain(*args, **options)
            busy.append(stage)
            begin = time.perf_counter()
            try:
                return plain(*args, **options)
            finally:
                label = busy.pop()
                if stage == "pass":
                    first, write = args[1:3]
                    label = "first pass: softmax, splat" if first else (
                        "last pass: slice, update, result" if write else "passes: slice, update, splat")
                seconds[label] = seconds.get(label, 0.0) + time.perf_counter() - begin

        setattr(owner, name, wrapper)
        undo.append((owner, name, plain))

    busy: list[str] = []
    undo: list[tuple[Any, str, Any]] = []
    parts = [(features, "image_features", "lattice: features"), (features, "grid_features", "lattice: features"),
             (lattice.Lattice, "_embed", "lattice: embed"), (lattice.Lattice, "_number", "lattice: number vertices"),
             (lattice.Lattice, "_link", "lattice: neighbours"), (lattice.Lattice, "_spread", "lattice: norm"),
             (meanfield._Run, "_choose", "choose labels"), (meanfield._Run, "_merge", "merge copies"),
             (meanfield._Run, "_blur", "blur"), (meanfield._Run, "_pass", "pass")]
    for part in parts:
        timed(*part)
    try:
        yield
    finally:
        for owner, name, plain in undo:
            setattr(owner, name, plain)


def main() -> None:
    """Answer jobs until the input ends."""
    side = {"ours": ours, "peer": peer}[sys.argv[1]]
    if side is ours:
        sys.path.insert(0, str(ROOT))  # a checkout need not be installed
        import atrouscaffe.crf.densecrf  # noqa: F401
    else:
        import pydensecrf.densecrf  # noqa: F401
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        unary, image = load(job)
        base, stages = peak_mb(), {}
        with stopwatch(stages) if job.get("stages") else contextlib.nullcontext():
            begin, cpu = time.perf_counter(), time.process_time()
            beliefs, answer = side(job, unary, image)
            answer |= {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
        if stages:
            answer["stages"] = stages | {"other": answer["seconds"] - sum(stages.values())}
        answer |= {"base_mb": base, "peak_mb": peak_mb()}
        if job.get("output"):
            np.save(job["output"], beliefs)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
