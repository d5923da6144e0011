"""How long each convolution of a net takes on the GPU at hand, by columns and by every plan of the implicit kernels.

Beside it stand the bounds of `gpu_bounds.py` (of an H100). Every way's result is compared with that of columns in
FP32. Times are those of recorded graphs, the least of several. Without a GPU nothing is measured and the exit
status is 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gpu_bounds import H100, bounds, convolutions

from atrouscaffe.ops import conv_implicit_cuda as implicit
from atrouscaffe.ops.conv_cuda import _explicit
from atrouscaffe.runtime.cuda import PRECISIONS, CudaBackend, Recording, milliseconds, probe

MICRO = 1e3  # microseconds in a millisecond
TOLERANCE = {"fp32": 1e-5, "tf32": 2e-3, "fp16": 2e-3}  # of the largest result


def ways_of(layer: dict[str, Any], precision: str, capability: tuple[int, int], most: int) -> dict[str, implicit.Plan]:
    """Return the plans to be measured, by names like ``"128x128 / 4"``."""
    job = implicit.Job.of(layer["x"], layer["y"], layer["windows"], layer["group"], precision)
    found = {}
    for plan in implicit.plans(job, capability)[:most]:
        found[f"{implicit.TILES[precision][plan.tile].name} / {plan.splits}"] = plan
    return found


def measure(layer: dict[str, Any], precision: str, most: int, repeats: int) -> dict[str, float]:
    """Return microseconds by way: ``"columns"``, plans between float32 blobs, and in FP16 plans between packed ones.

    Raises
    ------
    SystemExit
        A way's result is wrong.
    """
    backend, exact = CudaBackend(0, precision), CudaBackend(0, "fp32")
    xp, group, windows = backend.xp, layer["group"], layer["windows"]
    random = np.random.default_rng(1)
    kernel = (layer["y"][1], layer["x"][1] // group, *(w.kernel for w in windows))
    depth = kernel[1] * kernel[2] * kernel[3]
    x = xp.asarray(random.standard_normal(layer["x"], np.float32))
    weight = xp.asarray(random.standard_normal(kernel, np.float32) * np.float32((2 / depth) ** 0.5))
    bias = xp.asarray(random.standard_normal(kernel[0], np.float32))
    y, expected = xp.empty(layer["y"], np.float32), xp.empty(layer["y"], np.float32)
    with exact.active():
        _explicit(x, weight, bias, expected, windows, group, True)
    with backend.active():
        packed_weight = implicit.pack_weight(weight, precision, group)
        given = {"precision": precision, "relu": True, "packed_weight": packed_weight}
        works: dict[str, Callable[[], None]] = {"columns": partial(_explicit, x, weight, bias, y, windows, group, True)}
        for name, plan in ways_of(layer, precision, backend.capability, most).items():
            works[name] = partial(implicit.implicit_forward, x, weight, bias, y, windows, group, plan=plan, **given)
        times = {}
        for name, work in works.items():
            y.fill(float("nan"))
            times[name] = milliseconds(Recording(backend, work).replay, repeats) * MICRO
            off = float(xp.abs(y - expected).max() / xp.abs(expected).max())
            if not off <= TOLERANCE[precision]:
                sys.exit(f"{layer['name']}, {precision}, {name}: the result is off by {off:.1e} of the largest value")
        if precision == "fp16" and group == 1:
            packed_x, packed_y = (implicit.pack_activations(array, "fp16") for array in (x, y))
            for name, plan in ways_of(layer, precision, backend.capability, most).items():
                work = partial(implicit.implicit_forward, x, weight, bias, y, windows, packed_x=packed_x,
                               packed_y=packed_y, plan=plan, **given)
                times[f"packed {name}"] = milliseconds(Recording(backend, work).replay, repeats) * MICRO
    return times


def line(layer: dict[str, Any], precision: str, times: dict[str, float]) -> str:
    """Return one row of the table."""
    bound = bounds(layer, H100)
    best: dict[str, tuple[float, str]] = {}
    for name, time in times.items():
        kind = name.split()[0] if name.startswith(("columns", "packed")) else "planes"
        best[kind] = min(best.get(kind, (time, name)), (time, name))
    first = next(name for name in times if name != "columns")
    least, fastest = min(best.values())
    cells = [layer["name"], precision, f"{bound[f'arithmetic {precision}']:.1f}", f"{best['columns'][0]:.1f}",
             f"{best['planes'][0]:.1f}", best["planes"][1], f"{times[first]:.1f}",
             f"{best['packed'][0]:.1f}" if "packed" in best else "", f"{bound['gflop'] / least * 1e3:.0f}", fastest]
    return f"| {' | '.join(cells)} |"


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table, write all times as JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--net", default="deeplab-largefov", help="a folder of prototxt/ (default: %(default)s)")
    parser.add_argument("--size", type=int, default=306, help="pixels along a side (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="images in a batch (default: %(default)s)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--plans", type=int, default=99, help="at most so many plans a layer (default: all)")
    parser.add_argument("--repeats", type=int, default=20, help="runs of each way (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all times there")
    arguments = parser.parse_args(argv)
    found = probe()
    if found.state != "ready":
        print(f"benchmarks/gpu_convolutions.py: {found.message}", file=sys.stderr)
        return 2
    heads = ("layer", "precision", "H100's bound", "columns", "planes", "plan", "first plan", "packed", "TFLOP/s",
             "best")
    print(f"{found.message}: {arguments.net}, {arguments.size} x {arguments.size}, batch {arguments.batch}; "
          "microseconds\n\n"
          f"| {' | '.join(heads)} |\n| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |")
    rows = []
    for layer in convolutions(arguments.net, arguments.size, arguments.batch):
        for precision in arguments.precision:
            times = measure(layer, precision, arguments.plans, arguments.repeats)
            rows.append({"layer": layer["name"], "precision": precision, "times": times})
            print(line(layer, precision, times), flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"device": found.message, "net": arguments.net, "size": arguments.size, "batch": arguments.batch,
                       "layers": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
