"""How fast nets run, train and are refined on the GPU at hand, beside PyTorch (cuDNN) and our own CPU engine.

DeepLab-LargeFOV at 306x306, batch 1 and 16, in each precision: explicit columns, implicit kernels and the
mixture that the engine measures for itself, each as a recorded CUDA graph; PyTorch with the same weights,
channels_last, cuDNN's own search and a CUDA graph. Engines run in turns in one process, their outputs are
compared. Then training iterations at 321x321, batch 20, and the CRF against the CPU's.

PyTorch is optional: without it our own figures stand alone. Clocks are read with nvidia-smi and never set.
Without a GPU nothing is measured and the exit status is 2.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PRESET = "deeplab-largefov"
WAYS = {"ours, columns": "explicit", "ours, implicit": "implicit", "ours": "measured"}
SMI = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.draw",
       "power.limit", "temperature.gpu", "mig.mode.current")
Runs = dict[str, Callable[[int], None]]


def nvidia_smi() -> dict[str, str]:
    """Return what nvidia-smi says of the first device, {} where it cannot be run."""
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader", "--id=0"],
                              capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(SMI, (word.strip() for word in done.stdout.strip().split(","))))


def nvidia_smi_during(run: Callable[[int], None], count: int) -> dict[str, str]:
    """Return what nvidia-smi says while the device works."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(nvidia_smi)
        run(count)
        while not asked.done():
            run(1)
        return asked.result()


def find_torch() -> Any:
    """Return PyTorch where it is installed with CUDA, else None."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def in_turns(runs: Runs, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of one pass of each engine, once a round, the engines in turns.

    Each call ``run(n)`` makes n passes and waits for the last; n is chosen so that it takes `seconds`.
    """
    counts = {}
    for name, run in runs.items():
        run(2)
        begin = time.perf_counter()
        run(4)
        counts[name] = max(1, round(seconds * 4 / (time.perf_counter() - begin)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(counts[name])
            found[name].append((time.perf_counter() - begin) / counts[name])
    return found


def row(times: Sequence[float], batch: int, **more: Any) -> dict[str, Any]:
    """Return what is kept of an engine's times."""
    median = statistics.median(times)
    return {"images_per_second": batch / median, "median_ms": median * 1e3, "fastest_ms": min(times) * 1e3,
            "slowest_ms": max(times) * 1e3, **more}


# -- the net ----------------------------------------------------------------------------------------


@contextmanager
def convolution(way: str) -> Iterator[None]:
    """Let nets that are made inside convolve in this way."""
    before = os.environ.get("ATROUSCAFFE_CONVOLUTION")
    os.environ["ATROUSCAFFE_CONVOLUTION"] = way
    try:
        yield
    finally:
        if before is None:
            del os.environ["ATROUSCAFFE_CONVOLUTION"]
        else:
            os.environ["ATROUSCAFFE_CONVOLUTION"] = before


def our_net(model: str, batch: int, size: int, device: str, precision: str) -> Any:
    """Return the net up to its scores, with the same random weights each time, its input filled."""
    import dataclasses

    import numpy as np

    from atrouscaffe.formats.prototxt import read_net
    from atrouscaffe.net import Net
    from atrouscaffe.pipeline.registry import find_prototxt
    from atrouscaffe.pipeline.speed import fill_at_random

    spec = read_net(find_prototxt(model))
    layers = spec.layers[:-1] if spec.layers[-1].type == "Interp" else spec.layers
    net = Net(dataclasses.replace(spec, layers=layers), keep=[], device=device, precision=precision, seed=0,
              input_shapes={"data": (batch, 3, size, size)})
    fill_at_random(net)
    net.blobs["data"].data[...] = np.random.default_rng(1).normal(0, 50, net.blobs["data"].shape)
    return net


def our_run(net: Any) -> Callable[[int], None]:
    """Return a function that makes so many passes of the recorded net and waits."""
    recording = net.record()

    def run(count: int) -> None:
        for _ in range(count):
            recording.replay()
        net.backend.synchronize()

    return run


def our_scores(net: Any) -> Callable[[], Any]:
    """Return a function that returns the net's scores."""
    return lambda: net.blobs[net.outputs[0]].data.copy()


def set_precision(torch: Any, precision: str) -> None:
    """Let PyTorch round the operands of float32 products to TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


def torch_run(torch: Any, net: Any, precision: str) -> tuple[Callable[[int], None], Callable[[], Any]]:
    """Return the same for PyTorch, and a function that returns its scores."""
    from benchmarks import torch_net

    set_precision(torch, precision)
    kind = torch.float16 if precision == "fp16" else torch.float32
    options = {"device": "cuda", "dtype": kind, "memory_format": torch.channels_last}
    module = torch_net.build(net, net.outputs[0]).eval().to(**options)
    data = torch.from_numpy(net.blobs["data"].data.copy()).to(**options)
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                module(data)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            scores = module(data)

    def run(count: int) -> None:
        for _ in range(count):
            graph.replay()
        torch.cuda.synchronize()

    return run, lambda: scores.float().cpu().numpy()


def difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference as a share of the largest number."""
    return float(abs(ours - theirs).max() / abs(theirs).max())


def forward(options: argparse.Namespace, torch: Any) -> list[dict[str, Any]]:
    """Time the net in each precision and batch."""
    from atrouscaffe.graph.report import describe

    rows = []
    for batch in options.batches:
        for precision in options.precisions:
            runs: Runs = {}
            nets: dict[str, Any] = {}
            for name, way in WAYS.items():
                with convolution(way):
                    nets[name] = our_net(options.model, batch, options.size, options.device, precision)
                    runs[name] = our_run(nets[name])
            scores = {name: our_scores(net) for name, net in nets.items()}
            if torch is not None:
                runs["PyTorch"], scores["PyTorch"] = torch_run(torch, nets["ours"], precision)
            flops = describe(nets["ours"].graph)["flops"]
            times = in_turns(runs, options.rounds, options.seconds)
            clocks = nvidia_smi_during(runs["ours"], max(1, round(options.seconds / statistics.median(times["ours"]))))
            reference = scores["PyTorch" if torch is not None else "ours, columns"]()
            for name in runs:
                rows.append({"what": "forward", "engine": name, "batch": batch, "precision": precision,
                             **row(times[name], batch), "flops_per_second": flops / statistics.median(times[name]),
                             "difference": difference(scores[name](), reference), "clocks": clocks})
            del runs, nets, scores
            free(torch, options.device)
    return rows


def free(torch: Any, device: str) -> None:
    """Give memory that is not used any more back to the device."""
    import gc

    from atrouscaffe.runtime.backend import get_backend

    gc.collect()
    if torch is not None:
        torch.cuda.empty_cache()
    if device != "cpu":
        backend = get_backend(device)
        with backend.active():
            backend.xp.get_default_memory_pool().free_all_blocks()


# -- training ---------------------------------------------------------------------------------------


def torch_training(torch: Any, step: Any, precision: str) -> Callable[[], float]:
    """Return an iteration of the same net in PyTorch on the device: forward, backward, SGD; it returns the loss."""
    from benchmarks import torch_net

    set_precision(torch, precision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net, solver = step.net, step.solver
    loss = next(node for node in net.graph.nodes if node.spec.type == "SoftmaxWithLoss")
    module = torch_net.build(net, loss.spec.bottoms[0], train=True).train()
    module = module.to(device=device, memory_format=torch.channels_last)
    data = torch.from_numpy(net.blobs[step.data].data.copy()).to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(net.blobs[step.label].data[:, 0, ::8, ::8].copy()).long().to(device)
    rates = {(entry.layer, entry.index): entry for entry in net.learnable}
    groups = []
    for name, convolved in module.convolutions.items():
        for index, values in enumerate(convolved.parameters()):
            entry = rates[name, index]
            groups.append({"params": [values], "lr": solver.base_lr * entry.lr_mult,
                           "weight_decay": solver.weight_decay * entry.decay_mult})
    optimizer = torch.optim.SGD(groups, lr=solver.base_lr, momentum=solver.momentum)

    def iterate() -> float:
        optimizer.zero_grad()
        found = torch.nn.functional.cross_entropy(module(data), labels, ignore_index=255)
        found.backward()
        optimizer.step()
        return float(found.detach())

    return iterate


def repeated(step: Callable[[], Any]) -> Callable[[int], None]:
    """Return a function that runs a step, which waits for itself, so many times."""
    def run(count: int) -> None:
        for _ in range(count):
            step()

    return run


def training(options: argparse.Namespace, torch: Any) -> list[dict[str, Any]]:
    """Time training iterations in each precision that trains."""
    from atrouscaffe.pipeline.speed import TrainingStep

    rows = []
    for precision in [name for name in options.precisions if name != "fp16"]:
        step = TrainingStep(options.model, options.train_batch, options.train_size, options.device, precision)
        runs: Runs = {"ours": repeated(step)}
        if torch is not None:
            runs["PyTorch"] = repeated(torch_training(torch, step, precision))
        times = in_turns(runs, options.rounds, options.seconds)
        clocks = nvidia_smi_during(runs["ours"], max(1, round(options.seconds / statistics.median(times["ours"]))))
        rows += [{"what": "training", "engine": name, "batch": options.train_batch, "precision": precision,
                  **row(times[name], options.train_batch), "clocks": clocks} for name in runs]
        del runs, step
        free(torch, options.device)
    return rows


# -- the CRF ----------------------------------------------------------------------------------------


def crf(options: argparse.Namespace, torch: Any = None) -> list[dict[str, Any]]:
    """Time the CRF on the device beside the CPU's, with the scores on the device and the labels back in main memory."""
    import numpy as np

    from atrouscaffe.crf.densecrf import refine, refine_on_device
    from atrouscaffe.data.image import decode_image
    from atrouscaffe.pipeline.benchmark import likely_scores, synthetic_picture
    from atrouscaffe.runtime.backend import get_backend
    from atrouscaffe.runtime.threads import num_threads

    backend, rows = get_backend(options.device), []
    for side in options.crf_sizes:
        picture = synthetic_picture(side, 0)
        rgb = np.ascontiguousarray(decode_image(picture.data)[..., ::-1])
        scores = likely_scores(picture, 21, 0)
        there = backend.asarray(scores)
        made: dict[str, Any] = {}

        def on_cpu(rgb: Any = rgb, scores: Any = scores, made: dict[str, Any] = made) -> None:
            made["CPU"] = refine(rgb, scores=scores, preset=PRESET).labels

        def on_device(rgb: Any = rgb, there: Any = there, made: dict[str, Any] = made) -> None:
            made["ours"] = backend.to_numpy(refine_on_device(rgb, there, {"preset": PRESET}, backend, labels=True))

        times = in_turns({"ours": repeated(on_device), "CPU": repeated(on_cpu)}, options.rounds, options.seconds)
        equal = float((made["CPU"] == made["ours"]).mean())
        rows += [{"what": "CRF", "engine": name, "size": side, **row(times[name], 1), "threads": num_threads(),
                  "equal_labels": equal} for name in times]
    return rows


# -- the whole --------------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """Return the figures as text, each row beside PyTorch's or the CPU's of the same kind."""
    head = f"{'what':<10}{'engine':<16}{'batch':>6}{'prec.':>7}{'size':>6}{'images/s':>11}{'median ms':>11}" \
           f"{'x peer':>8}  difference"
    lines = [head]
    keys = ("what", "batch", "precision", "size")
    peers = {tuple(entry.get(key) for key in keys): entry for entry in result["rows"]
             if entry["engine"] in ("PyTorch", "CPU")}
    for entry in result["rows"]:
        peer = peers.get(tuple(entry.get(key) for key in keys))
        ratio = f"{entry['images_per_second'] / peer['images_per_second']:.2f}" if peer else "-"
        apart = (f"{entry['difference']:.1e}" if "difference" in entry else
                 f"labels equal {entry['equal_labels']:.2%}" if "equal_labels" in entry else "")
        lines.append(f"{entry['what']:<10}{entry['engine']:<16}{entry.get('batch', 1):>6}"
                     f"{entry.get('precision', 'fp32'):>7}{entry.get('size', ''):>6}"
                     f"{entry['images_per_second']:>11,.1f}{entry['median_ms']:>11.3f}{ratio:>8}  {apart}")
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    """Return whole numbers that are written with commas."""
    return [int(part) for part in text.split(",")]


def words(text: str) -> list[str]:
    """Return words that are written with commas."""
    return text.split(",")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="deeplab-largefov", help="model of the paper, or deploy net with its train "
                                                                    "net and solver beside it (deeplab-largefov)")
    parser.add_argument("--size", type=int, default=306, help="side of the images (306)")
    parser.add_argument("--batches", type=numbers, default=[1, 16], help="with commas (1,16)")
    parser.add_argument("--precisions", type=words, default=["fp32", "tf32", "fp16"], help="with commas (all three)")
    parser.add_argument("--train-size", type=int, default=321)
    parser.add_argument("--train-batch", type=int, default=20)
    parser.add_argument("--crf-sizes", type=numbers, default=[306, 513], help="with commas (306,513)")
    parser.add_argument("--only", type=words, default=["forward", "training", "crf"], help="parts, with commas (all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each engine (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn (1)")
    parser.add_argument("--json", type=Path, help="where the figures go (benchmarks/results/GPU.json)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table and keep the figures; 2 without a GPU."""
    options = parse(argv)
    sys.path.insert(0, str(ROOT))
    from atrouscaffe.errors import AtrousCaffeError
    from atrouscaffe.pipeline.yardstick import copy_bandwidth, host_facts, peak_flops
    from atrouscaffe.runtime.backend import get_backend
    from atrouscaffe.runtime.cuda import probe

    found = probe()
    if found.state != "ready":
        print(f"benchmarks/gpu.py: {found.message}. Nothing was measured; `atrouscaffe doctor --device cuda` says "
              "more.", file=sys.stderr)
        return 2
    try:
        backend, torch = get_backend(options.device), find_torch()
        if torch is None:
            print("PyTorch with CUDA is not installed: our own figures stand alone", file=sys.stderr)
        result: dict[str, Any] = {
            "host": host_facts(backend), "nvidia_smi": nvidia_smi(), "model": options.model, "rounds": options.rounds,
            "torch": None if torch is None else {"version": torch.__version__, "cuda": torch.version.cuda,
                                                 "cudnn": torch.backends.cudnn.version()},
            "copy_bytes_per_second": copy_bandwidth(backend), "peak_flops_per_second": {
                precision: peak_flops(get_backend(options.device, precision)) for precision in options.precisions},
            "rows": []}
        for part, measure in (("forward", forward), ("training", training), ("crf", crf)):
            if part in options.only:
                print(f"measuring: {part}", file=sys.stderr, flush=True)
                result["rows"] += measure(options, torch)
    except AtrousCaffeError as error:
        print(f"benchmarks/gpu.py: {error}", file=sys.stderr)
        return 2
    slug = re.sub(r"[^a-z0-9]+", "-", backend.device_name.lower()).strip("-")
    path = options.json or ROOT / "benchmarks" / "results" / f"{slug}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{backend.device_name}\n{table(result)}\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
