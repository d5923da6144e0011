"""Training images a second: DeepLab-LargeFOV, 321x321, batch 4, beside PyTorch on the same net.

Each engine runs in a process of its own, one iteration in turns (forward, backward, SGD with
momentum and decay), with the same starting weights, images and labels and the same number of
threads. The two Dropout layers are left out, so that both courses are the same numbers and their
losses can be compared. Memory is each process's peak.

PyTorch need not be installed beside this package: ``--torch-python`` names an interpreter that has
it (``pip install torch numpy``); without one our own figures are printed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEED, RATE, MOMENTUM, DECAY = 11, 0.001, 0.9, 0.0005
TRUNK = [(64, 2, 1), (128, 2, 1), (256, 3, 1), (512, 3, 1), (512, 3, 2)]  # channels, convolutions, hole


def shapes(width: float) -> list[tuple[str, int, int, int]]:
    """Return (layer, outputs, inputs, kernel) of all convolutions."""
    rows, inputs = [], 3
    for block, (channels, count, _) in enumerate(TRUNK, 1):
        for i in range(1, count + 1):
            rows.append((f"conv{block}_{i}", round(channels * width), inputs, 3))
            inputs = round(channels * width)
    hidden = round(1024 * width)
    return [*rows, ("fc6", hidden, inputs, 3), ("fc7", hidden, hidden, 1), ("fc8_voc12", 21, hidden, 1)]


def weights(width: float) -> dict[str, Any]:
    """Return the same starting weights for both engines."""
    import numpy as np

    draw = np.random.default_rng(SEED)
    return {name: draw.standard_normal((outputs, inputs, k, k), np.float32)
            * np.float32(0.01 if name == "fc8_voc12" else (2 / (inputs * k * k)) ** 0.5)
            for name, outputs, inputs, k in shapes(width)}


def batch(images: int, size: int) -> tuple[Any, Any]:
    """Return images of values near 1 and label maps of blocks, some void."""
    import numpy as np

    draw = np.random.default_rng(SEED + 1)
    data = draw.standard_normal((images, 3, size, size)).astype(np.float32)
    blocks = draw.integers(0, 22, (images, 1, 8, 8))
    label = blocks.repeat(-(-size // 8), 2).repeat(-(-size // 8), 3)[:, :, :size, :size]
    return data, np.where(label == 21, 255, label).astype(np.float32)


def our_step(options: argparse.Namespace) -> Callable[[], float]:
    """Return a function that does one iteration and returns the loss."""
    from atrouscaffe import get_solver
    from atrouscaffe.runtime.threads import set_num_threads

    set_num_threads(options.threads)
    text = (ROOT / "prototxt/deeplab-largefov/train.prototxt").read_text()
    text = text.replace("${EXP}", "voc12").replace("${NUM_LABELS}", "21").replace("${NET_ID}", "largefov")
    blocks = [f"layers {{{block}" for block in text.split("layers {")[1:]]
    kept = [block for block in blocks if not re.search(r"type: (IMAGE_SEG_DATA|DROPOUT|SEG_ACCURACY)", block)]
    body = re.sub(r"num_output: (\d+)", lambda m: m[0] if m[1] == "21" else
                  f"num_output: {round(int(m[1]) * options.width)}", "".join(kept))
    dims = {"data": 3, "label": 1}
    inputs = "".join(f'input: "{name}"\n' + "".join(f"input_dim: {n}\n" for n in
                     (options.batch, channels, options.size, options.size)) for name, channels in dims.items())
    solver = get_solver(f'net_param {{ {inputs} {body} }}\nbase_lr: {RATE} lr_policy: "fixed" momentum: {MOMENTUM} '
                        f"weight_decay: {DECAY} max_iter: 1000\n", log=lambda line: None)
    for name, array in weights(options.width).items():
        solver.net.params[name][0].data[...] = array
        solver.net.params[name][1].data[...] = 0
    solver.net.blobs["data"].data[...], solver.net.blobs["label"].data[...] = batch(options.batch, options.size)
    losses: list[float] = []
    solver.listeners.append(lambda event: losses.append(event.loss))

    def step() -> float:
        solver.step(1)
        return losses[-1]

    return step


def torch_step(options: argparse.Namespace) -> Callable[[], float]:
    """Return the same for PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(options.threads)
    params = {}
    for name, array in weights(options.width).items():
        params[name] = (torch.from_numpy(array).requires_grad_(), torch.zeros(len(array), requires_grad=True))
    groups = [{"params": [p[i]], "lr": RATE * (1 + i) * (10 if name == "fc8_voc12" else 1),
               "weight_decay": DECAY * (1 - i)} for name, p in params.items() for i in (0, 1)]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM)
    data, label = (torch.from_numpy(array) for array in batch(options.batch, options.size))
    label = label[:, 0, ::8, ::8].long()

    def conv(x: Any, name: str, pad: int, hole: int) -> Any:
        return functional.conv2d(x, *params[name], padding=pad, dilation=hole)

    def step() -> float:
        x = data
        for block, (_, count, hole) in enumerate(TRUNK, 1):
            for i in range(1, count + 1):
                x = functional.relu_(conv(x, f"conv{block}_{i}", hole, hole))
            x = functional.max_pool2d(x, 3, 2 if block < 4 else 1, 1)
        x = functional.avg_pool2d(x, 3, 1, 1)
        x = functional.relu_(conv(x, "fc6", 12, 12))
        x = functional.relu_(conv(x, "fc7", 0, 1))
        loss = functional.cross_entropy(conv(x, "fc8_voc12", 0, 1), label, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def work(options: argparse.Namespace) -> int:
    """Answer each line on standard input with one iteration's time and loss."""
    step = {"ours": our_step, "torch": torch_step}[options.worker](options)
    for _ in sys.stdin:
        begin = time.perf_counter()
        loss = step()
        print(json.dumps({"seconds": time.perf_counter() - begin, "loss": loss,
                          "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)
    return 0


class Engine:
    """A worker process."""

    def __init__(self, name: str, python: str, options: argparse.Namespace) -> None:
        command = [python, __file__, "--worker", name]
        for option in ("size", "batch", "width", "threads"):
            command += [f"--{option}", str(getattr(options, option))]
        threads = str(options.threads)
        env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
               "PYTHONPATH": str(ROOT) if name == "ours" else ""}
        self.name, self.rows = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def step(self) -> dict[str, float]:
        """Run one iteration."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the worker {self.name} ended with status {self.process.wait()}")
        self.rows.append(json.loads(line))
        return self.rows[-1]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def summary(self) -> dict[str, Any]:
        """Return median time without the first iteration, and the peak."""
        times = [row["seconds"] for row in self.rows[1:]] or [self.rows[0]["seconds"]]
        return {"median_s": statistics.median(times), "fastest_s": min(times), "times_s": times,
                "peak_mb": self.rows[-1]["peak_mb"], "losses": [row["loss"] for row in self.rows]}


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; exit status 1 where the two courses differ."""
    parser = argparse.ArgumentParser(description="Time training iterations of DeepLab-LargeFOV beside PyTorch.")
    parser.add_argument("--torch-python", help="an interpreter that has torch")
    parser.add_argument("--size", type=int, default=321)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=float, default=1.0, help="share of the channels (1)")
    parser.add_argument("--iterations", type=int, default=5, help="timed ones; one more warms up (5)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--worker", choices=("ours", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        return work(options)
    engines = [Engine("ours", sys.executable, options)]
    if options.torch_python:
        engines.append(Engine("torch", options.torch_python, options))
    for i in range(options.iterations + 1):
        for engine in engines:
            row = engine.step()
            print(f"{'warm-up' if i == 0 else f'iteration {i}'}: {engine.name:5} {row['seconds']:7.2f} s, "
                  f"loss {row['loss']:.6f}", file=sys.stderr, flush=True)
    for engine in engines:
        engine.close()
    result: dict[str, Any] = {engine.name: engine.summary() for engine in engines}
    result |= {"size": options.size, "batch": options.batch, "width": options.width, "threads": options.threads,
               "host": platform.processor() or platform.machine(), "python": platform.python_version()}
    status = 0
    for engine in engines:
        row = result[engine.name]
        print(f"{engine.name:5} {row['median_s']:7.2f} s an iteration (fastest {row['fastest_s']:.2f}), "
              f"{options.batch / row['median_s']:.3f} images/s, peak {row['peak_mb']:,.0f} MB")
    if options.torch_python:
        result["speed_ratio"] = result["torch"]["median_s"] / result["ours"]["median_s"]
        apart = max(abs(a - b) / abs(b) for a, b in zip(result["ours"]["losses"], result["torch"]["losses"]))
        status = int(apart > 1e-3)
        print(f"ours runs at {result['speed_ratio']:.2f} x PyTorch's speed; losses differ by at most {apart:.1e}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
