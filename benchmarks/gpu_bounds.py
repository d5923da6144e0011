"""What a GPU could at best need for the convolutions of a net, layer by layer: arithmetic, bytes, and a model.

Nothing is measured and no GPU is needed. ``arithmetic`` is the layer's FLOPs over the device's peak; ``implicit``
is every operand and result once over its memory's bandwidth, in half precision as it stays packed between
layers; ``explicit`` adds that columns of half precision are written and read. ``model`` is the estimate by
which `atrouscaffe.ops.conv_implicit_cuda` orders its plans, at the clock given here.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a checkout need not be installed

from atrouscaffe.formats.prototxt import read_net  # noqa: E402
from atrouscaffe.geometry import Window  # noqa: E402
from atrouscaffe.graph.graph import Graph  # noqa: E402
from atrouscaffe.layers.windows import conv_windows  # noqa: E402
from atrouscaffe.ops import conv_implicit_cuda as implicit  # noqa: E402
from atrouscaffe.spec import Phase  # noqa: E402

H100 = {  # NVIDIA's data sheet of the H100 SXM5, without sparsity
    "name": "H100 SXM5", "bandwidth": 3.35e12, "clock": 1.755e9, "multiprocessors": 132,
    "flops": {"fp32": 66.9e12, "tf32": 494.7e12, "fp16": 989.4e12},
}
MICRO = 1e6


def convolutions(net: str, size: int, batch: int) -> list[dict[str, Any]]:
    """Return shapes and windows of every convolution of ``prototxt/NET/deploy.prototxt``."""
    spec = read_net(ROOT / "prototxt" / net / "deploy.prototxt")
    graph = Graph(spec, Phase.TEST, input_shapes={"data": (batch, 3, size, size)})
    found = []
    for node in graph.nodes:
        if node.spec.type == "Convolution":
            x, y = (graph.values[values[0]].shape for values in (node.bottoms, node.tops))
            found.append({"name": node.spec.name, "x": x, "y": y, "windows": conv_windows(node.layer.p, 2),
                          "group": node.layer.p.group})
    return found


def bounds(layer: dict[str, Any], device: dict[str, Any]) -> dict[str, Any]:
    """Return one layer's figures; times in microseconds."""
    x, y, group = layer["x"], layer["y"], layer["group"]
    windows: tuple[Window, Window] = layer["windows"]
    taps = windows[0].kernel * windows[1].kernel
    depth, pixels = x[1] // group * taps, y[0] * y[2] * y[3]
    weights = y[1] * depth
    flops = 2 * weights * pixels
    once = 2 * (math.prod(x) + weights + math.prod(y))  # bytes, half precision
    columns = 0 if taps == 1 else 2 * 2 * x[1] * taps * pixels
    row = {"layer": layer["name"], "pixels": pixels, "outputs": y[1], "depth": depth, "hole": windows[0].hole,
           "gflop": flops / 1e9, "implicit": once / device["bandwidth"] * MICRO,
           "explicit": (once + columns) / device["bandwidth"] * MICRO}
    for precision, peak in device["flops"].items():
        row[f"arithmetic {precision}"] = flops / peak * MICRO
        job = implicit.Job.of(x, y, windows, group, precision)
        plan = implicit.plan_of(job, device["multiprocessors"])
        tile = implicit.TILES[precision][plan.tile]
        row[f"plan {precision}"] = tile.name + (f" / {plan.splits}" if plan.splits > 1 else "")
        row[f"model {precision}"] = implicit.clocks_of(job, plan, device["multiprocessors"]) / device["clock"] * MICRO
    return row


COLUMNS = {  # heading of the table: key, how it is written
    "layer": ("layer", ""), "pixels": ("pixels", ""), "outputs": ("outputs", ""), "depth": ("depth", ""),
    "GFLOP": ("gflop", ".2f"), "fp32": ("arithmetic fp32", ".1f"), "tf32": ("arithmetic tf32", ".1f"),
    "fp16": ("arithmetic fp16", ".1f"), "implicit bytes": ("implicit", ".1f"), "explicit bytes": ("explicit", ".1f"),
    "plan fp16": ("plan fp16", ""), "model fp16": ("model fp16", ".0f"), "plan fp32": ("plan fp32", ""),
    "model fp32": ("model fp32", ".0f"),
}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows, layers alike behind one another as one, and the sums of all as a Markdown table."""
    total: dict[str, Any] = {"layer": "all"}
    for key, form in COLUMNS.values():
        total.setdefault(key, sum(row[key] for row in rows) if form else "")
    merged: list[dict[str, Any]] = []
    for row in rows:
        same = {key: value for key, value in row.items() if key not in ("layer", "hole")}
        if merged and same.items() <= merged[-1].items():
            merged[-1] = {**merged[-1], "layer": f"{merged[-1]['layer'].split(',')[0]}, ..., {row['layer']}, each"}
        else:
            merged.append(row)
    rules = ("---:" if form else "---" for _, form in COLUMNS.values())
    lines = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join(rules)} |"]
    lines += [f"| {' | '.join(format(row[key], form) for key, form in COLUMNS.values())} |"
              for row in (*merged, total)]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Print the tables, or write all figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--net", default="deeplab-largefov", help="a folder of prototxt/ (default: %(default)s)")
    parser.add_argument("--size", type=int, default=306, help="pixels along a side (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="images in a batch (default: 1 16)")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    arguments = parser.parse_args(argv)
    found = {batch: [bounds(layer, H100) for layer in convolutions(arguments.net, arguments.size, batch)]
             for batch in arguments.batch}
    if arguments.json:
        print(json.dumps({"device": H100, "net": arguments.net, "size": arguments.size, "batches": found}, indent=1))
        return
    for batch, rows in found.items():
        whole = sum(row["gflop"] for row in rows) / batch
        print(f"{arguments.net}, {arguments.size} x {arguments.size}, batch {batch}: {whole:.1f} GFLOP an image; "
              f"bounds and model of an {H100['name']} in microseconds, nothing measured\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
