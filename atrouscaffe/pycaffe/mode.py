"""What is global in Caffe: where to compute, the seed, how much is logged, how many solvers there are."""

from __future__ import annotations

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.pipeline import glog
from atrouscaffe.runtime.backend import get_backend

__all__ = ["device", "has_nccl", "init_log", "log", "next_seed", "set_device", "set_mode_cpu", "set_mode_gpu",
           "set_multiprocess", "set_random_seed", "set_solver_count", "set_solver_rank", "solver_count",
           "solver_rank"]

_gpu: int | None = None
_device_id = 0
_seeds: np.random.SeedSequence | None = None


def device() -> str:
    """Return the device that new nets run on."""
    return "cpu" if _gpu is None else f"cuda:{_gpu}"


def set_mode_cpu() -> None:
    """Let new nets run on the CPU."""
    global _gpu
    _gpu = None


def set_mode_gpu() -> None:
    """Let new nets run on the GPU.

    Raises
    ------
    DeviceError
        There is none that this version can use.
    """
    global _gpu
    get_backend(f"cuda:{_device_id}")
    _gpu = _device_id


def set_device(device_id: int) -> None:
    """Choose a GPU.

    Raises
    ------
    DeviceError
        This version cannot use it.
    """
    global _gpu, _device_id
    get_backend(f"cuda:{int(device_id)}")
    _device_id = int(device_id)
    if _gpu is not None:
        _gpu = _device_id


def set_random_seed(seed: int) -> None:
    """Let the nets made from now on draw from this seed, each its own numbers."""
    global _seeds
    _seeds = np.random.SeedSequence(abs(int(seed)))


def next_seed() -> int | None:
    """Return the seed of the next net, None where none was set."""
    if _seeds is None:
        return None
    return int(_seeds.spawn(1)[0].generate_state(2, np.uint64)[0])


def init_log(level: int | None = None, stderr: bool = True) -> None:
    """Set how much is logged: 0 everything, 1 warnings, 2 errors; the log goes to standard error."""
    glog.set_level(level)


def log(message: str) -> None:
    """Write a line of information to the log."""
    glog.info(str(message))


def has_nccl() -> bool:
    """Tell whether several GPUs can work together: no."""
    return False


def solver_count() -> int:
    """Return how many solvers work together: one."""
    return 1


def solver_rank() -> int:
    """Return which of them this is: the first."""
    return 0


def _only(what: str, value: int, known: int) -> None:
    if int(value) != known:
        raise ArgumentError(f"{what}: expected {known}, since one solver trains a net here, got {value}")


def set_solver_count(count: int) -> None:
    """Accept one solver."""
    _only("set_solver_count", count, 1)


def set_solver_rank(rank: int) -> None:
    """Accept the first solver."""
    _only("set_solver_rank", rank, 0)


def set_multiprocess(multiprocess: bool) -> None:
    """Accept False."""
    _only("set_multiprocess", multiprocess, 0)
