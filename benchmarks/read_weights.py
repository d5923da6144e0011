"""How long, and with how much memory, a large caffemodel is read.

Makes a file of the asked size in a temporary folder (VGG-like layers, random numbers), reads it in
a fresh process, loads every blob, and prints seconds and peak memory beside the size of the file.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def make(path: Path, megabytes: int) -> None:
    """Write a caffemodel of about `megabytes`."""
    import numpy as np

    from atrouscaffe.formats.caffemodel import write_caffemodel
    from atrouscaffe.formats.prototxt import parse_net
    rng = np.random.default_rng(7)
    layers, params = [], {}
    for i in range(-(-megabytes // 36)):
        layers.append(f'layer {{ name: "fc{i}" type: "Convolution" bottom: "b{i}" top: "b{i + 1}" '
                      "convolution_param { num_output: 1024 kernel_size: 3 } }")
        params[f"fc{i}"] = [rng.random((1024, 1024, 3, 3), np.float32), rng.random(1024, np.float32)]
    write_caffemodel(path, parse_net("\n".join(layers)), params)


def measure(path: str) -> None:
    """Read one file in this process and print the figures as JSON."""
    from atrouscaffe.formats.weights import open_weights
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    file = open_weights(path)
    opened = time.perf_counter() - start
    arrays = file.arrays()
    loaded = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(blob.size for blobs in arrays.values() for blob in blobs)
    print(json.dumps({"open_s": opened, "load_s": loaded, "peak_mb": peak / 1024, "before_mb": before / 1024,
                      "numbers": count}))


def main() -> int:
    """Make a file, read it in fresh processes, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=500, help="size of the file (default: 500)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--measure", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.measure:
        measure(arguments.measure)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.caffemodel"
        make(path, arguments.mb)
        size = path.stat().st_size / 2**20
        runs = [json.loads(subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True,
                                          capture_output=True, text=True).stdout) for _ in range(arguments.runs)]
    load = statistics.median(run["load_s"] for run in runs)
    peak = max(run["peak_mb"] for run in runs)
    print(f"file {size:.0f} MB; open {1e3 * statistics.median(r['open_s'] for r in runs):.1f} ms; "
          f"all blobs loaded {load:.2f} s (median of {len(runs)}); peak memory of the process {peak:.0f} MB = "
          f"{peak / size:.2f} x the file")
    if arguments.json:
        host = {"machine": platform.machine(), "python": platform.python_version()}
        Path(arguments.json).write_text(json.dumps({"file_mb": size, "runs": runs, "host": host}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
