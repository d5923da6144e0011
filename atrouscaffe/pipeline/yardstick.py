"""What a device can do at most, measured: a large matrix product and a large copy; and what it is."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.runtime.threads import chunks, num_threads, parallel

__all__ = ["copy_bandwidth", "host_facts", "peak_flops"]

SIDES = {"cpu": 2048, "cuda": 8192}
"""Sides of the square matrices: large enough that the product is bound by arithmetic."""
COPIED = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Bytes copied: more than caches hold."""
GRAIN = 1 << 20


def _kind(backend: Any) -> str:
    return "cpu" if backend.name == "cpu" else "cuda"


def _fastest(backend: Any, work: Callable[[], object], repeats: int) -> float:
    """Return the seconds of the fastest of several runs, behind one to warm up."""
    seconds = []
    for _ in range(1 + repeats):
        backend.synchronize()
        begin = time.perf_counter()
        work()
        backend.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def peak_flops(backend: Any, repeats: int = 5) -> float:
    """Return the operations a second of a large matrix product in the backend's precision."""
    side = SIDES[_kind(backend)]
    if backend.name == "cpu":
        a, b = (np.random.default_rng(i).standard_normal((side, side), np.float32) for i in (0, 1))
        c = np.empty((side, side), np.float32)
        return 2 * side**3 / _fastest(backend, lambda: np.matmul(a, b, out=c), repeats)
    from atrouscaffe.runtime.cublas import gemm

    with backend.active():
        operand = np.float16 if backend.precision == "fp16" else np.float32
        # cuBLAS's own speed depends on the numbers: zeros would draw less power than a net's do
        left, right = (backend.asarray(np.random.default_rng(i).standard_normal((side, side), np.float32)
                                       .astype(operand)) for i in (0, 1))
        result = backend.zeros((side, side), np.float32)
        return 2 * side**3 / _fastest(backend, lambda: gemm(left, right, result), repeats)


def copy_bandwidth(backend: Any, repeats: int = 5) -> float:
    """Return the bytes a second that a copy within the device's memory reads and writes."""
    count = COPIED[_kind(backend)] // 4
    if backend.name == "cpu":
        source, target = np.ones(count, np.float32), np.empty(count, np.float32)
        parts = chunks(count, GRAIN)

        def work() -> None:
            parallel(lambda i: np.copyto(target[slice(*parts[i])], source[slice(*parts[i])]), len(parts))

        return 8 * count / _fastest(backend, work, repeats)
    with backend.active():
        here, there = backend.zeros((count,), np.float32), backend.zeros((count,), np.float32)

        def copy() -> None:
            there[...] = here

        return 8 * count / _fastest(backend, copy, repeats)


def host_facts(backend: Any) -> dict[str, Any]:
    """Return what figures depend on: date, processor, device, versions."""
    from atrouscaffe.pipeline.doctor import version_of

    model, info = platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": model, "threads": num_threads(), "system": platform.platform(),
        "python": platform.python_version(), "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: version_of(name) for name in ("atrouscaffe", "numpy", "numba", "opencv-python-headless")}}
    if backend.name != "cpu":
        from atrouscaffe.pipeline.doctor_gpu import driver_version
        from atrouscaffe.runtime.cuda import dotted, probe

        found = probe()
        facts["device"] = {"name": backend.device_name, "compute_capability": list(backend.capability),
                           "driver": driver_version(), "cuda_driver": dotted(found.driver),
                           "cuda_runtime": dotted(found.runtime), "cupy": found.cupy}
    return facts
