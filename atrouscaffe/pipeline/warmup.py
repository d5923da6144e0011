"""Compile ahead what nets, the CRF and training would compile at their first use, by using it on small arrays."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atrouscaffe.errors import FileAccessError
from atrouscaffe.net import Net
from atrouscaffe.runtime.backend import ENGINES
from atrouscaffe.spec import TEST, TRAIN

__all__ = ["Step", "warm_cpu", "warm_device"]

CRF_LABELS = (2, 12, 21, 31)
"""One number of labels for each width of vectors that the CRF's functions are made for: 8, 16, 24, 32."""
INPUTS = """force_backward: true
layer { name: "x" type: "Input" top: "x" top: "edge" top: "size" top: "label" input_param {
        shape { dim: 2 dim: 4 dim: 12 dim: 15 } shape { dim: 2 dim: 1 dim: 12 dim: 15 }
        shape { dim: 2 dim: 2 dim: 1 dim: 1 } shape { dim: 2 dim: 1 dim: 12 dim: 15 } } }
"""
FILLED = 'weight_filler { type: "gaussian" std: 0.1 }'
NETS = {
    "convolution": f"""
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a"
        convolution_param {{ num_output: 18 kernel_size: 3 pad: 2 dilation: 2 {FILLED} }} }}
layer {{ name: "r" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "m" type: "Convolution" bottom: "a" top: "m"
        convolution_param {{ num_output: 18 kernel_size: 3 pad: 1 {FILLED} }} }}
layer {{ name: "p" type: "Convolution" bottom: "m" top: "p"
        convolution_param {{ num_output: 6 kernel_size: 1 {FILLED} }} }}
layer {{ name: "s" type: "Convolution" bottom: "p" top: "s"
        convolution_param {{ num_output: 6 kernel_size: 3 stride: 2 {FILLED} }} }}
layer {{ name: "b" type: "Convolution" bottom: "s" top: "y"
        convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 group: 6 {FILLED} }} }}""",
    "deconvolution": f"""
layer {{ name: "a" type: "Deconvolution" bottom: "x" top: "a"
        convolution_param {{ num_output: 4 kernel_size: 4 stride: 2 group: 2 {FILLED} }} }}
layer {{ name: "b" type: "Deconvolution" bottom: "a" top: "y"
        convolution_param {{ num_output: 4 kernel_size: 4 stride: 2 group: 4 {FILLED} }} }}""",
    "pooling": """
layer { name: "a" type: "Pooling" bottom: "x" top: "a" pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "b" type: "Pooling" bottom: "a" top: "y" pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }""",
    "interpolation": """
layer { name: "a" type: "Interp" bottom: "x" top: "y" interp_param { zoom_factor: 3 } }""",
    "domain transform": """
layer { name: "a" type: "DomainTransform" bottom: "x" bottom: "edge" bottom: "size" top: "y"
        domain_transform_param { num_iter: 2 spatial_sigma: 4 range_sigma: 2 } }""",
    "softmax": """
layer { name: "a" type: "Softmax" bottom: "x" top: "y" }""",
    "losses": f"""
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a"
        convolution_param {{ num_output: 4 kernel_size: 1 {FILLED} }} }}
layer {{ name: "n" type: "LRN" bottom: "a" top: "n" lrn_param {{ local_size: 3 }} }}
layer {{ name: "d" type: "Dropout" bottom: "n" top: "n" }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "n" bottom: "label" top: "y" }}""",
}


class Step(NamedTuple):
    """One thing that was used.

    Attributes
    ----------
    name : str
    seconds : float
    compiled : tuple of str
        Functions or files of kernels that were not there yet.
    there : int
        How many were.
    """

    name: str
    seconds: float
    compiled: tuple[str, ...]
    there: int


def _run_net(body: str, device: str, precision: str = "fp32", engine: str | None = None) -> None:
    """Run a net forward and backward."""
    rng = np.random.default_rng(0)
    net = Net(INPUTS + body, TRAIN, device=device, precision=precision, engine=engine, seed=1)
    values = {"x": rng.normal(size=(2, 4, 12, 15)), "edge": rng.random((2, 1, 12, 15)),
              "size": np.array([[12, 15], [9, 8]]).reshape(2, 2, 1, 1), "label": rng.integers(0, 4, (2, 1, 12, 15))}
    inputs: dict[str, Any] = {name: values[name].astype(np.float32) for name in net.inputs}
    net.forward(**inputs)
    if not net.blob_loss_weights["y"]:
        net.blobs["y"].diff[...] = rng.normal(size=net.blobs["y"].shape)
    net.backward()
    net.backend.synchronize()


def _run_deployed() -> None:
    """Run a net that keeps few blobs: layers do the work of those after them."""
    body = f"""
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a"
        convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 group: 4 {FILLED} }} }}
layer {{ name: "r" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "b" type: "Deconvolution" bottom: "a" top: "b"
        convolution_param {{ num_output: 4 kernel_size: 2 stride: 2 {FILLED} }} }}
layer {{ name: "s" type: "ReLU" bottom: "b" top: "b" }}
layer {{ name: "y" type: "Softmax" bottom: "b" top: "y" }}"""
    net = Net(INPUTS + body, TEST, keep=[], seed=1)
    net.forward(**{name: np.ones(net.blobs[name].shape, np.float32) for name in net.inputs})


def _run_crf(labels: int, device: str = "cpu") -> None:
    """Refine scores that are sure of themselves in some places: labels are pruned, too."""
    from atrouscaffe.crf.densecrf import refine

    rng = np.random.default_rng(labels)
    scores = rng.normal(size=(labels, 24, 31))
    scores[0, :12] += 12
    powers = np.exp(scores - scores.max(0))
    refine(rng.integers(0, 256, (24, 31, 3), dtype=np.uint8), (powers / powers.sum(0)).astype(np.float32),
           device=device)


def _machine_code(folder: Path) -> set[tuple[Path, int]]:
    """Return the files of compiled functions, with the time at which each was written."""
    found = set()
    for path in folder.rglob("*.nbc"):
        with contextlib.suppress(FileNotFoundError):  # another process replaced it
            found.add((path, path.stat().st_mtime_ns))
    return found


def warm_cpu() -> Iterator[Step]:
    """Use every compiled function of the CPU engine; yield each step behind it.

    Raises
    ------
    FileAccessError
        What is compiled cannot be kept.
    """
    from atrouscaffe.runtime.jit import cache_folder, counts

    folder = cache_folder()
    if folder is None:
        raise FileAccessError("warmup: the folder for compiled functions cannot be written, so that nothing can be "
                              "compiled ahead; let ATROUSCAFFE_CACHE_DIR name a folder that can")
    steps: dict[str, Callable[[], None]] = {name: lambda body=body: _run_net(body, "cpu")  # type: ignore[misc]
                                            for name, body in NETS.items()}
    steps |= {f"convolution by {engine}": lambda engine=engine: _run_net(  # type: ignore[misc]
        NETS["convolution"], "cpu", engine=engine) for engine in ENGINES}
    steps["layers together"] = _run_deployed
    steps |= {f"CRF of {labels} labels": lambda labels=labels: _run_crf(labels)  # type: ignore[misc]
              for labels in CRF_LABELS}
    before = counts()
    for name, work in steps.items():
        kept, begin = _machine_code(folder), time.perf_counter()
        work()
        seconds, after = time.perf_counter() - begin, counts()
        fresh = tuple(key for key, (compiled, _) in after.items() if compiled > before.get(key, (0, 0))[0])
        lost = len(fresh) - len(_machine_code(folder) - kept) if fresh else 0
        if lost > 0:
            raise FileAccessError(f"warmup: {lost} of {len(fresh)} compiled functions of step {name!r} could not be "
                                  f"kept in {folder}; see whether the disk is full, or let ATROUSCAFFE_CACHE_DIR name "
                                  "another folder")
        there = sum(read - before.get(key, (0, 0))[1] for key, (_, read) in after.items())
        yield Step(name, seconds, fresh, there)
        before = after


def warm_device(device: str) -> Iterator[Step]:
    """Compile every kernel for float32, and use the device's own elementwise kernels; yield each step behind it.

    Raises
    ------
    DeviceError
        The device cannot be had, or a kernel does not compile for it.
    FileAccessError
        What is compiled is not kept.
    """
    from atrouscaffe.pipeline.doctor_gpu import kernel_cache_folder
    from atrouscaffe.runtime.backend import get_backend
    from atrouscaffe.runtime.kernels import compile_kernels, kernel_files

    backend, folder = get_backend(device), kernel_cache_folder()
    if folder is None:
        raise FileAccessError("warmup: CuPy keeps compiled kernels in memory alone, so that nothing can be compiled "
                              "ahead; unset CUPY_CACHE_IN_MEMORY")

    def kept() -> int:
        return sum(1 for path in folder.rglob("*") if path.is_file())

    def kernels(file: str) -> Callable[[], Any]:
        def work() -> None:
            with backend.active():
                compile_kernels(file)

        return work

    steps: dict[str, Callable[[], Any]] = {f"{file}.cu": kernels(file) for file in kernel_files()}
    steps |= {name: lambda body=body: _run_net(body, device) for name, body in NETS.items()}  # type: ignore[misc]
    steps["CRF of 21 labels"] = lambda: _run_crf(21, device)
    for name, work in steps.items():
        files, begin = kept(), time.perf_counter()
        work()
        fresh = kept() - files
        yield Step(name, time.perf_counter() - begin, (name,) * bool(fresh), 0 if fresh else 1)
