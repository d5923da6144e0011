#!/usr/bin/env python3
"""Do net, CRF, decoding and writing overlap in an evaluation? Wall clock against what it cannot be below.

    python benchmarks/evaluate.py --net deploy.prototxt --weights W.caffemodel --voc VOC2012 --list devval

Three runs in this process: the net alone on the images in memory, the whole evaluation with CRF, label maps and bands,
and the net alone again (other work on the machine shows as a difference of the two). The aim is a wall clock of at
most 1.1 times the larger of the net alone and the processor time over the number of threads. On a machine that does
other work, too, wall clocks mean little: the processor's share that this process got is printed, and, in its units,
the ratio of processor time to wall clock over what the net alone reached.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from typing import Any

from atrouscaffe.data.dataset import find_samples
from atrouscaffe.data.image import read_image
from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.pipeline.evaluate import evaluate, run_settings
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.pipeline.sources import NetSource
from atrouscaffe.pipeline.store import RunStore
from atrouscaffe.runtime.threads import num_threads


def processor_seconds() -> float:
    """Return the processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(work: Any) -> tuple[float, float]:
    """Return wall clock and processor time of a call."""
    begin, used = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - begin, processor_seconds() - used


def idle_share(work: Any) -> tuple[float, float, float]:
    """Return wall clock, processor time, and the machine's idle processors during a call."""
    def idle() -> float:
        with open("/proc/stat", encoding="ascii") as file:
            values = [int(word) for word in file.readline().split()[1:]]
        return (values[3] + values[4]) / os.sysconf("SC_CLK_TCK")

    before = idle()
    wall, used = timed(work)
    return wall, used, (idle() - before) / wall


def main() -> int:
    """Measure and print JSON; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure how far an evaluation overlaps its parts.")
    parser.add_argument("--net", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 127.5)
    parser.add_argument("--voc", required=True)
    parser.add_argument("--list", default="devval")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--preset", default="deeplabv3-mnv2")
    args = parser.parse_args()
    try:
        samples = find_samples(args.voc, args.list)[:args.limit]
        segmenter = Segmenter(args.net, args.weights, mean=args.mean, scale=args.scale, crf=args.preset)
        images = [read_image(sample.image) for sample in samples]
    except AtrousCaffeError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    source = NetSource(segmenter)

    def net_alone() -> None:
        for image in images:
            segmenter.scores(image)

    evaluate(source, samples[:2])  # compiles
    first = idle_share(net_alone)
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(folder, run_settings(source))
        whole = idle_share(lambda: evaluate(source, samples, store=store))
    second = idle_share(net_alone)
    bound = max(min(first[0], second[0]), whole[1] / num_threads())
    print(json.dumps({
        "machine": platform.machine(), "processors": os.cpu_count(), "threads": num_threads(), "images": len(samples),
        "net_alone_s": [round(first[0], 2), round(second[0], 2)],
        "net_alone_processor_s": [round(first[1], 2), round(second[1], 2)],
        "evaluation_s": round(whole[0], 2), "evaluation_processor_s": round(whole[1], 2),
        "bound_s": round(bound, 2), "ratio": round(whole[0] / bound, 3),
        "idle_processors": {"net_alone": round(first[2], 3), "evaluation": round(whole[2], 3)},
        "processors_used": {"net_alone": round(first[1] / first[0], 3), "evaluation": round(whole[1] / whole[0], 3)},
    }, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
