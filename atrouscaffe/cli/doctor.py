"""``atrouscaffe doctor``: what works here, and what to install for what does not."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from atrouscaffe.errors import ArgumentError

__all__ = ["HELP", "add_arguments", "lines_of", "run"]

HELP = ("Use each thing that nets need once and say what works: BLAS, threads, Numba and its cache, image files, HDF5, "
        "the CUDA device and its compiler; behind -> stands what to do. The exit status is 0 where nets run on the "
        "CPU, 2 where something essential is broken; with --device cuda the device is essential, too.")
WIDTH = 14


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--device", default="cpu", metavar="D", help="device that must work: cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Examine; 2 where something essential is broken."""
    import re
    import shutil

    from atrouscaffe.pipeline.doctor import examine, healthy

    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", args.device):
        raise ArgumentError(f"--device: expected cpu, cuda or cuda:N, got {args.device!r}")
    width = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None
    findings, area = [], ""
    for finding in examine(args.device):
        findings.append(finding)
        if args.json:
            continue
        if finding.area != area:
            area = finding.area
            print(area, flush=True)
        print("\n".join(lines_of(finding, width)), flush=True)
    works = healthy(findings)
    if args.json:
        import dataclasses
        import json

        print(json.dumps({"healthy": works, "device": args.device,
                          "findings": [dataclasses.asdict(finding) for finding in findings]}, indent=1, default=str))
    else:
        broken = [f"{finding.area}: {finding.name}" for finding in findings
                  if finding.essential and finding.state in ("absent", "broken")]
        print(f"nets run on {args.device} here" if works else f"essential and not working: {', '.join(broken)}")
    return 0 if works else 2


def lines_of(finding: Any, width: int | None) -> list[str]:
    """Return a finding as lines, of `width` characters where words allow it; None does not wrap."""
    import textwrap

    margin = f"  {'':<7} {'':<{WIDTH}} "
    parts = [(f"  {finding.state:<7} {finding.name:<{WIDTH}} ", margin, finding.text)]
    if finding.remedy:
        parts.append((f"{margin}-> ", f"{margin}   ", finding.remedy))
    if width is None:
        return [first + text for first, _, text in parts]
    return [line for first, rest, text in parts
            for line in textwrap.wrap(text, max(width, 60), initial_indent=first, subsequent_indent=rest,
                                      break_long_words=False, break_on_hyphens=False)]
