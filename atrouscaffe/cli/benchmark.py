"""``atrouscaffe benchmark``: how fast nets run here, stage by stage."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from atrouscaffe.cli.options import add_device_options, pairs

__all__ = ["HELP", "add_arguments", "render", "run"]

HELP = ("Measure how fast nets run here: images a second, and the time of decoding, net, upsampling, CRF and writing, "
        "each waited for; the net's share of what the device can do at most; the result checked against float32 on "
        "the CPU; beside the paper's 8 images a second on a Titan and 0.5 s for the CRF.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_device_options(parser)
    parser.add_argument("--model", action="append", default=[], metavar="NET",
                        help="model of the paper, or deploy prototxt; may be repeated (deeplab, deeplab-largefov)")
    parser.add_argument("--weights", action="append", default=[], metavar="[NET=]FILE",
                        help="caffemodel; without one weights are random, which changes no time but the CRF's")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images in a pass (1)")
    parser.add_argument("--size", type=int, default=306, metavar="PX", help="side of the square images (306)")
    parser.add_argument("--repeats", type=int, metavar="N", help="timed passes (5; 50 on a CUDA device)")
    parser.add_argument("--images", nargs="+", default=[], metavar="FILE", help="photographs (drawn pictures)")
    parser.add_argument("--no-crf", action="store_true", help="leave the CRF out")
    parser.add_argument("--no-peak", action="store_true", help="do not measure what the device can do at most")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON; - is the standard output")


def run(args: argparse.Namespace) -> int:
    """Measure; return the exit status."""
    from atrouscaffe.formats.atomic import atomic_write
    from atrouscaffe.pipeline.benchmark import DEFAULT_MODELS, Settings, benchmark
    from atrouscaffe.pipeline.yardstick import copy_bandwidth, host_facts, peak_flops
    from atrouscaffe.runtime.backend import get_backend

    repeats = args.repeats if args.repeats is not None else 5 if args.device == "cpu" else 50
    settings = Settings(args.device, args.precision, args.batch, args.size, repeats, not args.no_crf, args.images)
    models = args.model or list(DEFAULT_MODELS)
    weights = _weights(args.weights, models)
    backend = get_backend(args.device, args.precision)
    report: dict[str, Any] = {"host": host_facts(backend), "device": backend.name, "precision": args.precision,
                              "batch": args.batch, "size": args.size, "repeats": repeats}
    try:
        if not args.no_peak:
            _say("measuring the device")
            report |= {"peak_flops_per_second": peak_flops(backend), "copy_bytes_per_second": copy_bandwidth(backend)}
        report["nets"] = [benchmark(model, settings, weights.get(model), _say) for model in models]
    finally:
        _say("")
    if args.json != "-":
        print(render(report))
    if args.json:
        text = json.dumps(report, indent=1) + "\n"
        if args.json == "-":
            sys.stdout.write(text)
        else:
            with atomic_write(args.json) as file:
                file.write(text.encode())
    return 0


def _weights(words: list[str], models: list[str]) -> dict[str, str]:
    """Return the weights of each model.

    Raises
    ------
    ArgumentError
        One file for several models, or a model that is not measured.
    """
    from atrouscaffe.errors import ArgumentError

    if len(words) == 1 and len(models) == 1 and words[0].partition("=")[0] not in models:
        return {models[0]: words[0]}
    found: dict[str, str] = pairs(words, "--weights")
    unknown = next((name for name in found if name not in models), None)
    if unknown is not None:
        raise ArgumentError(f"--weights: expected NET=FILE for one of {', '.join(models)}, got {unknown!r}")
    return found


def _say(text: str) -> None:
    """Show one line that the next replaces, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def render(report: dict[str, Any]) -> str:
    """Return the figures as text."""
    host, device = report["host"], report["device"]
    where = host["device"]["name"] if "device" in host else f"{host['processor']}, {host['threads']} threads"
    lines = [f"{device} ({where}), {report['precision']}, {report['size']}x{report['size']} pixels, batch "
             f"{report['batch']}, {report['repeats']} passes"]
    if "peak_flops_per_second" in report:
        lines.append(f"at most: {_rate(report['peak_flops_per_second'])} in a large matrix product, "
                     f"{report['copy_bytes_per_second'] / 1e9:,.0f} GB/s in a large copy")
    for net in report["nets"]:
        lines += ["", *_net(net, report)]
    return "\n".join(lines)


def _rate(flops: float) -> str:
    return f"{flops / 1e12:,.1f} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:,.1f} GFLOP/s"


def _net(net: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Return the lines of one net."""
    height, width = net["score_map"]
    lines = [f"{net['name']}: {net['flops'] / 1e9:.1f} GFLOP an image, scores {height}x{width}, weights "
             f"{net['weights']}",
             f"  {'stage':<10}{'p50 ms':>10}{'p95 ms':>10}{'share':>8}"]
    whole = net["whole"]
    for stage, row in (*net["stages"].items(), ("all", whole)):
        lines.append(f"  {stage:<10}{row['p50_ms']:>10.2f}{row['p95_ms']:>10.2f}"
                     f"{row['p50_ms'] / whole['p50_ms']:>8.1%}")
    peak, paper = report.get("peak_flops_per_second"), net["paper"]
    said = (f"paper: {paper['net_images_per_second']} on a {paper['gpu']}" if "net_images_per_second" in paper else
            f"the paper's would be {paper['net_images_per_second_by_table2']} on a {paper['gpu']}, by Table 2's "
            "training speeds" if "net_images_per_second_by_table2" in paper else "")

    def speed(what: str, images: float, flops: float) -> str:
        share = f", {flops / peak:.0%} of the most" if peak else ""
        return f"  {what}: {images:,.2f} images/s, {_rate(flops)}{share}"

    lines.append(speed("net", net["images_per_second"]["net"], net["flops_per_second"])
                 + (f" ({said})" if said else ""))
    if "recorded" in net:
        lines.append(speed("net, recorded", net["recorded"]["images_per_second"], net["recorded"]["flops_per_second"])
                     + f", p50 {net['recorded']['p50_ms']:.2f} ms")
        lines.append(f"  stream: {net['stream']['images_per_second']:,.2f} images/s from pixels to labels, copies "
                     "overlapping")
    if "CRF" in net["stages"]:
        seconds = net["stages"]["CRF"]["p50_ms"] / 1e3 / report["batch"]
        lines.append(f"  CRF: {seconds:.3f} s an image, scores {net['crf_scores']} (paper: {paper['crf_seconds']} s)")
    lines.append(f"  all: {net['images_per_second']['whole']:,.2f} images/s")
    check = net["check"]
    lines.append(f"  check against {check['against']}: labels equal on {check['equal_labels']:.2%} of the pixels, "
                 f"scores differ by at most {check['largest_relative_difference']:.1e} of the largest"
                 + (", the same bits" if check["same_bits"] else ""))
    return lines
