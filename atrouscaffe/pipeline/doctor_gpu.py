"""The part of `doctor` that looks at CUDA: driver, CuPy, compiler, kernels on the device."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atrouscaffe.pipeline.small_net import SMALL_NET, compare_small_net
from atrouscaffe.runtime.cache import folder_size, home

__all__ = ["GPU_CHECKS", "cupy_packages", "kernel_cache_folder", "right_extra"]

MODULE_VERSION = Path("/proc/driver/nvidia/version")
TRIED_ARCHITECTURE = 90
FOR_CUDA_13 = 580
"""First driver that runs CUDA 13."""


def driver_version() -> str:
    """Return the version of the NVIDIA driver that is loaded, "" without one."""
    try:
        text = MODULE_VERSION.read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else ""


def right_extra() -> str:
    """Return the extra of this package that fits the driver: cuda13 where there is none yet."""
    version = driver_version()
    return "cuda12" if version and int(version.split(".")[0]) < FOR_CUDA_13 else "cuda13"


def cupy_packages() -> list[str]:
    """Return the installed packages that bring a module ``cupy``, sorted."""
    names = set()
    for found in importlib.metadata.distributions():
        name = (found.metadata["Name"] or "").lower().replace("_", "-")
        if name == "cupy" or re.fullmatch(r"cupy-(cuda\w+|rocm[\w-]+)", name):
            names.add(name)
    return sorted(names)


def _driver(device: str) -> tuple[Any, ...]:
    version = driver_version()
    if not version:
        return ("absent", "no NVIDIA driver is loaded", "for device 'cuda' only: install the driver of your graphics "
                "card; in a container, start it with the GPU handed in", {"version": ""})
    return "ok", version, "", {"version": version}


def _cupy(device: str) -> tuple[Any, ...]:
    from atrouscaffe.runtime.cuda import dotted, probe

    packages, found, extra = cupy_packages(), probe(), right_extra()
    facts = dataclasses.asdict(found) | {"packages": packages}
    install = f"pip install 'atrouscaffe[{extra}]'"
    if found.state == "not installed":
        return "absent", "not installed", f"for device 'cuda' only: {install}", facts
    if len(packages) > 1:
        return ("broken", f"{' and '.join(packages)} are installed over one another ({found.state})",
                f"pip uninstall {' '.join(packages)}, then {install}", facts)
    if found.state == "cannot be loaded":
        return ("broken", _reason(found), f"pip uninstall {' '.join(packages or ['cupy'])}, then {install}", facts)
    about = f"CuPy {found.cupy} for CUDA {dotted(found.runtime)}"
    if found.state == "ready":
        names = ", ".join(f"cuda:{i} {name} (compute capability {major}.{minor})" for i, (name, (major, minor))
                          in enumerate(zip(found.devices, found.capability)))
        return "ok", f"{about}, driver for CUDA {dotted(found.driver)}, ready: {names}", "", facts
    remedies = {"no driver": "for device 'cuda' only: install the driver of your graphics card",
                "old driver": f"update the driver, or pip uninstall {' '.join(packages)} and "
                              "pip install 'atrouscaffe[cuda12]'",
                "no device": "see whether nvidia-smi lists a device and CUDA_VISIBLE_DEVICES hides none",
                "failing": "see what nvidia-smi says; start the machine again; " + install}
    state = "absent" if found.state in ("no driver", "no device") else "broken"
    return state, f"{about}, {found.state}: {_reason(found)}", remedies[found.state], facts


def _reason(found: Any) -> str:
    return found.message.removeprefix("device 'cuda': ").split("; ")[0]


def _nvrtc(device: str) -> tuple[Any, ...]:
    from atrouscaffe.errors import DependencyError
    from atrouscaffe.runtime.cuda import probe
    from atrouscaffe.runtime.kernels import defines, kernel_text
    from atrouscaffe.runtime.nvrtc import load_nvrtc

    try:
        compiler = load_nvrtc()
    except DependencyError as error:
        return ("absent", str(error).split("; ")[0],
                f"for device 'cuda' only: pip install 'atrouscaffe[{right_extra()}]'")
    capability = probe().capability
    architecture = 10 * capability[0][0] + capability[0][1] if capability else TRIED_ARCHITECTURE
    facts = {"version": list(compiler.version), "path": compiler.path, "architecture": architecture,
             "architectures": list(compiler.architectures)}
    about = f"{compiler.version[0]}.{compiler.version[1]} ({compiler.path})"
    if architecture not in compiler.architectures:
        oldest, newest = min(compiler.architectures), max(compiler.architectures)
        return ("broken", f"{about} compiles for sm_{oldest} to sm_{newest}, not for this device's sm_{architecture}",
                f"pip install 'atrouscaffe[{'cuda12' if architecture < oldest else 'cuda13'}]'", facts)
    size = compiler.compile(kernel_text("im2col"), "im2col.cu", architecture, defines("float32"))
    return "ok", f"{about} compiled im2col.cu for sm_{architecture}, {size} bytes", "", facts


def _kernels(device: str) -> tuple[Any, ...]:
    import time

    from atrouscaffe.net import Net
    from atrouscaffe.runtime.cuda import probe

    found = probe()
    if found.state != "ready":
        return "absent", "no device to run a net on", ""
    name = "cuda" if device == "cpu" else device
    begin = time.perf_counter()
    net = Net(SMALL_NET, seed=3, device=name)
    problem = compare_small_net(net)
    seconds = time.perf_counter() - begin
    free, total = net.backend.xp.cuda.Device(net.backend.index).mem_info
    facts = {"device": net.backend.name, "name": net.backend.device_name, "seconds": seconds, "free_bytes": free,
             "total_bytes": total}
    if problem:
        return ("broken", f"a small net ran on {net.backend.name} and is wrong: {problem}", "report this as a defect",
                facts)
    return ("ok", f"a small net ran on {net.backend.name} ({net.backend.device_name}) and is right ({seconds:.2f} s, "
            f"compiling included); {free / 1e9:.1f} of {total / 1e9:.1f} GB are free", "", facts)


def kernel_cache_folder() -> Path | None:
    """Return the folder in which CuPy keeps what it compiled, None where it keeps nothing."""
    if os.environ.get("CUPY_CACHE_IN_MEMORY", "0") not in ("", "0"):
        return None
    return Path(os.environ.get("CUPY_CACHE_DIR") or home() / ".cupy" / "kernel_cache")


def _cache(device: str) -> tuple[Any, ...]:
    folder = kernel_cache_folder()
    if folder is None:
        return "note", "compiled kernels are kept in memory alone", "unset CUPY_CACHE_IN_MEMORY to keep them on disk"
    files, size = folder_size(folder)
    facts = {"folder": str(folder), "files": files, "bytes": size}
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return ("note", f"{folder} cannot be written ({error.strerror}), so that every start compiles again",
                "let CUPY_CACHE_DIR name a folder that can be written", facts)
    return "ok", f"{folder}: {files} files, {size / 1e6:.1f} MB", "", facts


GPU_CHECKS: tuple[tuple[str, bool, Callable[[str], tuple[Any, ...]]], ...] = (
    ("driver", False, _driver), ("CuPy", True, _cupy), ("NVRTC", False, _nvrtc), ("a net", True, _kernels),
    ("kernel cache", False, _cache))
"""(name, whether nets on a device need it, function of the device that was asked for) of each examination."""
