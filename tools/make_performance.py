"""Write docs/performance.md and its chart from benchmarks/results/cpu.json, which benchmarks/cpu.py measures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "benchmarks/results/cpu.json"
PAGE, CHART = ROOT / "docs/performance.md", ROOT / "docs/img/cpu-time.svg"
NET = "deeplab-largefov"


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def table(cases: list[dict[str, Any]]) -> list[str]:
    """Return the rows of all cases as Markdown."""
    peers = sorted({engine for case in cases for engine in case["engines"]} - {"atrouscaffe"})
    head = ["net", "size", "batch", "threads", "ours, ms", "GFLOP/s", "L2 error", *(f"/ {peer}" for peer in peers)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for case in cases:
        ours = case["engines"]["atrouscaffe"]
        ratios = [case["engines"].get(peer, {}).get("ratio_of_pairs") for peer in peers]
        lines.append("| " + " | ".join([
            case["net"], str(case["size"] or "own"), str(case["batch"]), str(case["threads"]),
            f"{ours['median_s'] * 1e3:.0f}", f"{ours['gflops']:.0f}", f"{ours['relative_l2']:.1e}",
            *(_cell(ratio, ".2f") for ratio in ratios)]) + " |")
    return lines


def chart(cases: list[dict[str, Any]]) -> str:
    """Return time against the image's side, an SVG."""
    from atrouscaffe.pipeline.chart import Panel, Series, draw

    most = max(case["threads"] for case in cases)
    chosen = sorted((case["size"], case) for case in cases
                    if case["net"] == NET and case["batch"] == 1 and case["threads"] == most)
    series = []
    for engine in sorted({engine for _, case in chosen for engine in case["engines"]}):
        points = [(size, case["engines"][engine]["median_s"]) for size, case in chosen if engine in case["engines"]]
        series.append(Series(engine, [x for x, _ in points], [y for _, y in points]))
    return draw(f"{NET} on {most} threads", [Panel("seconds a pass (median)", series)], "side of the image, pixels")


def page(result: dict[str, Any]) -> str:
    """Return the page."""
    host, cases = result["host"], result["cases"]
    versions = ", ".join(f"{name} {host[name]}" for name in ("onnxruntime", "openvino", "opencv", "torch")
                         if host.get(name, "not installed") != "not installed")
    peaks = [case for case in cases if "peak_mb" in case["engines"]["atrouscaffe"]]
    lines = ["# Performance on the CPU", "",
             "Written by `tools/make_performance.py` from `benchmarks/results/cpu.json`, which `benchmarks/cpu.py` "
             "measures: all engines in turns in one process, the same net, weights and input; medians, and ratios of "
             "neighbouring passes (ours / peer; below 1 we are faster). L2 errors are relative to a float64 pass.", "",
             f"Processor: {host['cpu']}, {host['cpus']} cores, load {host['load_before']:.1f} before; blocks of "
             f"{host['rows'][0]} rows; NumPy {host['numpy']}, Numba {host['numba']}; {versions}.", "",
             *table(cases), "", f"![Time against size](img/{CHART.name})", ""]
    if peaks:
        lines += ["Peak memory of a fresh process, MB:", "", "| net | size | threads | ours | onnxruntime |",
                  "| --- | --- | --- | --- | --- |"]
        lines += [f"| {case['net']} | {case['size']} | {case['threads']} | "
                  f"{case['engines']['atrouscaffe']['peak_mb']:.0f} | "
                  f"{_cell(case['engines'].get('onnxruntime', {}).get('peak_mb'), '.0f')} |" for case in peaks]
        lines.append("")
    lines += ["How the time is spent is described in [architecture.md](architecture.md), *a convolution*.", ""]
    return "\n".join(lines)


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file differs")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    result = json.loads(SOURCE.read_text())
    files = {PAGE: page(result), CHART: chart(result["cases"])}
    if arguments.check:
        return int(any(not path.exists() or path.read_text() != text for path, text in files.items()))
    for path, text in files.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
