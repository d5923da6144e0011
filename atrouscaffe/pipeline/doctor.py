"""What this installation can do: each thing that nets need is used once, and what is missing is named with its remedy.

Nothing heavy is imported before its own examination, and whatever an examination raises is its
finding: a broken package must not hide the others.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.pipeline.small_net import SMALL_NET, compare_small_net
from atrouscaffe.runtime.cache import folder_size

__all__ = ["Finding", "examine", "healthy"]

OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    Attributes
    ----------
    area : {"system", "CPU engine", "files", "optional", "GPU"}
    name : str
    state : {"ok", "note", "absent", "broken"}
        A note works, and could be better.
    text : str
        What was found.
    remedy : str
        What to do, "" where there is nothing to be done.
    essential : bool
        Nothing runs without it.
    facts : dict
        The same in values, for programs.
    """

    area: str
    name: str
    state: str
    text: str
    remedy: str = ""
    essential: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def examine(device: str = "cpu") -> Iterator[Finding]:
    """Examine one thing after another.

    Parameters
    ----------
    device : str
        Where it is ``"cuda"`` or ``"cuda:N"``, that device is essential.
    """
    for area, name, essential, check, remedy in _CHECKS:
        yield _guarded(area, name, essential, check, remedy)
    from atrouscaffe.pipeline.doctor_gpu import GPU_CHECKS

    for name, needed, gpu_check in GPU_CHECKS:
        yield _guarded("GPU", name, needed and device != "cpu", functools.partial(gpu_check, device), "")


def healthy(findings: list[Finding]) -> bool:
    """Whether everything essential works."""
    return not any(finding.essential and finding.state in ("absent", "broken") for finding in findings)


def _guarded(area: str, name: str, essential: bool, check: Callable[[], Any], remedy: str) -> Finding:
    """Return what `check` finds: it returns (state, text[, remedy[, facts]]), or raises what is wrong."""
    try:
        with warnings.catch_warnings(record=True) as told, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            found = check()
    except ModuleNotFoundError as error:
        return Finding(area, name, "absent", f"no module {error.name!r}", remedy, essential)
    except AtrousCaffeError as error:
        return Finding(area, name, "broken", " ".join(str(error).split()), remedy, essential)
    except Exception as error:  # whatever it is, it is the finding
        lines = str(error).strip().splitlines() or ["no reason given"]
        return Finding(area, name, "broken", f"{type(error).__name__}: {lines[0]}", remedy, essential)
    state, text, *rest = found
    if told and state == "ok" and not (rest and rest[0]):
        state, rest = "note", [f"it warns: {str(told[0].message).strip().splitlines()[0]}", *rest[1:]]
    return Finding(area, name, state, text, rest[0] if rest else "", essential, rest[1] if len(rest) > 1 else {})


def version_of(package: str) -> str:
    """Return the version that a package was installed as, "unknown" for one that was not installed by a tool."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


# -- system -----------------------------------------------------------------------------------------


def _python() -> tuple[Any, ...]:
    text = f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}"
    facts = {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()}
    if sys.version_info < OLDEST_PYTHON:
        return "broken", text, "install Python 3.11 or newer", facts
    return "ok", text, "", facts


def _package() -> tuple[Any, ...]:
    from atrouscaffe.resources import resource

    version = importlib.import_module("atrouscaffe").__version__
    kernels = sorted(path.name for path in resource("kernels").glob("*.cu"))
    nets = sorted(path.parent.name for path in resource("prototxt").glob("*/deploy.prototxt"))
    return ("ok", f"{version}, {len(nets)} nets and {len(kernels)} files of kernels in "
            f"{resource('prototxt').parent}", "", {"version": version, "nets": nets, "kernels": kernels})


def _processor() -> tuple[Any, ...]:
    model, flags = platform.processor() or platform.machine(), _processor_flags()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wide = [name for name in ("AVX2", "FMA3", "AVX512F", "AVX512_SKX", "NEON", "ASIMD", "SVE") if name in flags]
    facts = {"model": model, "machine": platform.machine(), "usable": usable, "features": sorted(flags)}
    text = f"{model}, {usable} processors usable, {', '.join(wide) or 'no wide vectors'}"
    if platform.machine() in ("x86_64", "AMD64") and "AVX2" not in flags:
        return "note", text, "without AVX2 nets run several times slower; use a processor made since 2013", facts
    return "ok", text, "", facts


def _processor_flags() -> set[str]:
    """Return the vector features that NumPy found, empty where it does not tell."""
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            found = getattr(importlib.import_module(name), "__cpu_features__", {})
        except ImportError:
            continue
        return {feature for feature, there in found.items() if there}
    return set()


def _memory() -> tuple[Any, ...]:
    from atrouscaffe.runtime.budget import default_budget

    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    free, info = 0, Path("/proc/meminfo")
    if info.is_file():
        line = next((x for x in info.read_text().splitlines() if x.startswith("MemAvailable")), "x 0 kB")
        free = int(line.split()[1]) * 1024
    budget = default_budget()
    facts = {"total_bytes": total, "available_bytes": free, "budget_bytes": budget}
    text = f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free, one piece of work may take {budget / 1e9:.1f} GB"
    if free and free < 2e9:
        return "note", text, "less than 2 GB are free: close programs, or give images in tiles (--tile 257)", facts
    return "ok", text, "", facts


# -- the CPU engine ---------------------------------------------------------------------------------


def _numpy() -> tuple[Any, ...]:
    import numpy as np

    if not np.array_equal(np.ones((3, 5), np.float32) @ np.ones((5, 2), np.float32), np.full((3, 2), 5, np.float32)):
        return "broken", f"{np.__version__}: its matrix product is wrong", "pip install --force-reinstall numpy"
    return "ok", np.__version__, "", {"version": np.__version__}


def _blas() -> tuple[Any, ...]:
    import numpy  # noqa: F401  (its BLAS must be loaded to be found)
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    if not pools:
        return ("note", "NumPy's BLAS is none that threadpoolctl knows", "its threads cannot be held back while ours "
                "work, which costs time: pip install --force-reinstall numpy brings OpenBLAS", {"libraries": []})
    words = [f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
             + (f", for {pool['architecture']}" if pool.get("architecture") else "") for pool in pools]
    return "ok", "; ".join(words), "", {"libraries": pools, "threadpoolctl": version_of("threadpoolctl")}


def _threads() -> tuple[Any, ...]:
    import threading

    from atrouscaffe.runtime.threads import num_threads, parallel

    seen: list[int] = []
    lock = threading.Lock()

    def work(i: int) -> None:
        with lock:
            seen.append(i)

    parallel(work, 64)
    if sorted(seen) != list(range(64)):
        return "broken", f"of 64 pieces of work {len(set(seen))} were done", "report this as a defect"
    named = os.environ.get("ATROUSCAFFE_NUM_THREADS")
    return ("ok", f"{num_threads()} ({'ATROUSCAFFE_NUM_THREADS' if named else 'the processors this process may use'}); "
            "a pool of our own, Numba's threading layers are not used", "", {"threads": num_threads()})


def _numba() -> tuple[Any, ...]:
    numba = importlib.import_module("numba")  # by name: imports of Numba stand in *_cpu.py alone
    from atrouscaffe.runtime.jit import cache_folder

    facts: dict[str, Any] = {"version": numba.__version__}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is told below
        folder = cache_folder()
    if folder is None:
        return ("note", f"{numba.__version__}; the folder for compiled functions cannot be written, so that every "
                "start compiles them again", "let ATROUSCAFFE_CACHE_DIR name a folder that can be written", facts)
    files, size = folder_size(folder)
    _, whole = folder_size(folder.parent)
    facts |= {"cache_folder": str(folder), "files": files, "bytes": size, "bytes_with_older": whole}
    more = f", {whole / 1e6:.0f} MB with those of other versions" if whole > 1.1 * size + 1e6 else ""
    text = f"{numba.__version__}; compiled functions in {folder}: {files} files, {size / 1e6:.1f} MB{more}"
    return "ok", text, "" if files else "atrouscaffe warmup compiles ahead", facts


def _cpu_net() -> tuple[Any, ...]:
    import time

    from atrouscaffe.net import Net

    begin = time.perf_counter()
    problem = compare_small_net(Net(SMALL_NET, seed=3))
    seconds = time.perf_counter() - begin
    if problem:
        return "broken", f"a small net ran and is wrong: {problem}", "report this as a defect"
    return "ok", f"a small net ran and is right ({seconds:.2f} s, compiling included)", "", {"seconds": seconds}


# -- files ------------------------------------------------------------------------------------------


def _opencv() -> tuple[Any, ...]:
    import cv2
    import numpy as np

    unread = []
    for suffix, picture, allowed in ((".png", np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3), 0),
                                     (".jpg", np.full((8, 12, 3), (40, 90, 200), np.uint8), 4)):
        written, data = cv2.imencode(suffix, picture)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if written else None
        if image is None or image.shape != picture.shape or abs(image.astype(int) - picture).max() > allowed:
            unread.append(suffix)
    packages = [name for name in ("opencv-python", "opencv-python-headless", "opencv-contrib-python",
                                  "opencv-contrib-python-headless") if version_of(name) != "unknown"]
    videos = any("FFMPEG" in line and "YES" in line for line in cv2.getBuildInformation().splitlines())
    facts = {"version": cv2.__version__, "packages": packages, "videos": videos}
    text = f"{cv2.__version__}, PNG and JPEG are read and written" + (", videos too" if videos else "")
    if unread:
        return ("broken", f"{cv2.__version__} cannot write and read back {' and '.join(unread)}",
                "pip install --force-reinstall opencv-python-headless", facts)
    if len(packages) > 1:
        return ("note", f"{text}; {' and '.join(packages)} are installed over one another",
                f"pip uninstall {' '.join(packages)}, then pip install opencv-python-headless", facts)
    return "ok", text, "", facts


def _pillow() -> tuple[Any, ...]:
    import numpy as np
    from PIL import Image, __version__

    labels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.putpalette([value % 256 for value in range(768)])
    file = io.BytesIO()
    picture.save(file, "PNG")
    file.seek(0)
    if not np.array_equal(np.asarray(Image.open(file)), labels):
        return "broken", f"{__version__}: palette PNGs are not read by index", "pip install --force-reinstall Pillow"
    return "ok", f"{__version__}, palette PNGs are read by index", "", {"version": __version__}


def _h5py() -> tuple[Any, ...]:
    import h5py
    import numpy as np

    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    with h5py.File("examined.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = values
        same = np.array_equal(file["x"][()], values)
    facts = {"version": h5py.__version__, "hdf5": h5py.version.hdf5_version}
    if not same:
        return ("broken", f"{h5py.__version__}: what was written is not read", "pip install --force-reinstall h5py",
                facts)
    return "ok", f"{h5py.__version__} with HDF5 {h5py.version.hdf5_version}", "", facts


def _protobuf() -> tuple[Any, ...]:
    from google.protobuf import __version__
    from google.protobuf.internal import api_implementation

    from atrouscaffe.formats.prototxt import parse_net

    spec, backend = parse_net(SMALL_NET), api_implementation.Type()
    facts = {"version": __version__, "backend": backend}
    if [layer.type for layer in spec.layers] != ["Input", "Convolution", "Pooling", "Softmax"]:
        return "broken", f"{__version__}: a small net is not read", "pip install --force-reinstall protobuf", facts
    if backend == "python":
        return ("note", f"{__version__}, the pure Python backend", "large caffemodels take minutes to read; unset "
                "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, or pip install --force-reinstall protobuf", facts)
    return "ok", f"{__version__}, backend {backend}", "", facts


def _optional(module: str, package: str, use: str) -> Callable[[], tuple[Any, ...]]:
    def check() -> tuple[Any, ...]:
        if importlib.util.find_spec(module) is None:
            return "absent", f"not installed; {use}", f"pip install {package}"
        importlib.import_module(module)
        return "ok", f"{version_of(package)}; {use}", "", {"version": version_of(package)}

    return check


_CHECKS: tuple[tuple[str, str, bool, Callable[[], Any], str], ...] = (
    ("system", "Python", True, _python, ""),
    ("system", "atrouscaffe", True, _package, "install the package again"),
    ("system", "processor", False, _processor, ""),
    ("system", "memory", False, _memory, "set ATROUSCAFFE_MEMORY_BUDGET to a number of bytes, or unset it"),
    ("CPU engine", "NumPy", True, _numpy, "pip install numpy"),
    ("CPU engine", "BLAS", True, _blas, "pip install threadpoolctl"),
    ("CPU engine", "threads", True, _threads, "set ATROUSCAFFE_NUM_THREADS to a whole number of at least 1, or unset "
                                              "it"),
    ("CPU engine", "Numba", True, _numba, "pip install numba; it must know this NumPy (its release notes say which)"),
    ("CPU engine", "a net", True, _cpu_net, "mend what is named above; if nothing is, report this as a defect"),
    ("files", "OpenCV", True, _opencv, "pip install opencv-python-headless (where libGL is missing: pip uninstall "
                                       "opencv-python first)"),
    ("files", "Pillow", True, _pillow, "pip install Pillow"),
    ("files", "h5py", True, _h5py, "pip install h5py"),
    ("files", "protobuf", True, _protobuf, "pip install protobuf"),
    ("optional", "lmdb", False, _optional("lmdb", "lmdb", "for Data layers with backend LMDB"), "pip install lmdb"),
    ("optional", "cramjam", False, _optional("cramjam", "cramjam", "for Data layers that read LevelDB"),
     "pip install cramjam"),
    ("optional", "google-crc32c", False, _optional("google_crc32c", "google-crc32c",
                                                   "for Data layers that read LevelDB"),
     "pip install google-crc32c"),
    ("optional", "SciPy", False, _optional("scipy", "scipy", "for interpolation of orders 2 to 5 in pycaffe's io"),
     "pip install scipy"),
    ("optional", "scikit-image", False, _optional("skimage", "scikit-image", "for the photographs of make demo"),
     "pip install scikit-image"),
)
