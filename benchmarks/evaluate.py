#!/usr/bin/env python3
"""Do net, CRF, decoding and writing overlap in an evaluation? Wall clock against what it cannot be below.

    python benchmarks/evaluate.py --net deploy.prototxt --weights W.caffemodel --voc VOC2012 --list devval

Three runs in this process: the net alone on the images in memory, the whole evaluation with CRF, label maps and bands,
and the net alone again (other work on the machine shows as a difference of the two). The aim is a wall clock of at
most 1.1 times the larger of the net alone and the processor time over the number of threads. On a machine that does
other work, too, wall clocks say little; so the threads of ours that run or wait for a processor are counted as well,
and a wall clock for a quiet machine is worked out from them: processor time over processors kept busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import threading
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


class Watch(threading.Thread):
    """Counts, every few milliseconds, the threads of this process that run or wait for a processor.

    Where other work shares the machine, a processor that we would have used is not there; a thread that waits
    for one shows all the same that nothing of ours held it up.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Sample until told to end."""
        own = threading.get_native_id()
        while not self.over.wait(0.005):
            ready = 0
            for task in os.listdir("/proc/self/task"):
                if int(task) == own:
                    continue
                try:
                    with open(f"/proc/self/task/{task}/stat", encoding="ascii", errors="replace") as file:
                        ready += file.read().rpartition(")")[2].split()[0] == "R"
                except FileNotFoundError:  # it ended meanwhile
                    continue
            self.seen.append(ready)

    def used(self) -> float:
        """Return how many processors would have been busy, on average, had all been ours."""
        self.over.set()
        self.join()
        return sum(min(ready, num_threads()) for ready in self.seen) / max(1, len(self.seen))


def watched(work: Any) -> tuple[float, float, float]:
    """Return wall clock, processor time, and how many processors a call would have kept busy."""
    watch = Watch()
    watch.start()
    wall, used = timed(work)
    return wall, used, watch.used()


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
    first = watched(net_alone)
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(folder, run_settings(source))
        whole = watched(lambda: evaluate(source, samples, store=store))
    second = watched(net_alone)
    bound = max(min(first[0], second[0]), whole[1] / num_threads())
    alone = min(run[1] / run[2] for run in (first, second))
    quiet, quiet_bound = whole[1] / whole[2], max(alone, whole[1] / num_threads())
    print(json.dumps({
        "machine": platform.machine(), "processors": os.cpu_count(), "threads": num_threads(), "images": len(samples),
        "net_alone": [{"wall_s": round(run[0], 2), "processor_s": round(run[1], 2), "processors": round(run[2], 3)}
                      for run in (first, second)],
        "evaluation": {"wall_s": round(whole[0], 2), "processor_s": round(whole[1], 2),
                       "processors": round(whole[2], 3)},
        "as_measured": {"bound_s": round(bound, 2), "ratio": round(whole[0] / bound, 3)},
        "from_threads_ready": {"wall_s": round(quiet, 2), "bound_s": round(quiet_bound, 2),
                               "ratio": round(quiet / quiet_bound, 3)},
        "load_average": os.getloadavg()[0],
    }, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
