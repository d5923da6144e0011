"""Convolution with holes on the device without columns: kernels that sample the holes as they multiply.

One kernel does what im2col and a matrix product do; the columns, kernel_h * kernel_w times the input,
are never written. ``"fp16"`` and ``"tf32"`` run on tensor cores: the input is packed once, rounded, with
channels innermost (`pack_activations`), the weight likewise (`pack_weight`, to be kept between calls).
``"fp32"`` reads the input as it is. Sums are float32 in all three.

Few pixels and many channels (39x39 pixels, 512 channels) make fewer tiles than the device has
multiprocessors; then shares of the sum over taps and channels are given to more blocks, and added in
order by a second kernel. Tile and shares (`Plan`) follow from shapes alone, unless a caller names them: the
same plan gives the same bits on every run. Kernels: ``kernels/conv_implicit.cu``, ``conv_implicit_fp32.cu``,
``conv_pack.cu``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.errors import DeviceError
from atrouscaffe.geometry import Window
from atrouscaffe.ops.im2col import geo_of, taps_of
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.kernels import launch

__all__ = ["MOST_TAPS", "PER_CHUNK", "Job", "Plan", "chunks_of", "clocks_of", "implicit_forward", "implicit_supported",
           "pack_activations", "pack_weight", "plan_of", "plans"]

MOST_TAPS = 15  # along one axis: a bit each in the kernels' masks
MOST = 2**31 - 1  # numbers and chunks are counted in int
PER_CHUNK = {"fp16": 8, "tf32": 4}  # channels in 16 bytes
STEP = 8  # chunks, or channels in fp32, that one step of a kernel multiplies


@dataclass(frozen=True)
class Tile:
    """One kernel: its tile and what it takes.

    Attributes
    ----------
    channels, pixels, threads, shared : int
        ``shared`` is dynamic shared memory in bytes.
    resident : int
        Blocks that a multiprocessor of compute capability 9.0 holds at a time.
    rate : float
        Share of the multiprocessor's fastest multiplication that the tile is expected to reach with all
        `resident` blocks at work (an estimate, not measured).
    suffix : str
        Tells kernels of the same tile apart: "w" owns 8 x 16 sums a thread.
    """

    channels: int
    pixels: int
    threads: int
    shared: int
    resident: int
    rate: float
    suffix: str = ""

    @property
    def name(self) -> str:
        """What the kernel's name ends with."""
        return f"{self.channels}x{self.pixels}{self.suffix}"


_TENSOR = (Tile(128, 256, 256, 3 * 384 * 128, 1, 1.0), Tile(128, 128, 128, 3 * 256 * 128, 2, 0.9),
           Tile(64, 128, 128, 3 * 192 * 128, 3, 0.75), Tile(64, 64, 128, 4 * 128 * 128, 3, 0.6))
TILES = {"fp16": _TENSOR, "tf32": _TENSOR,
         "fp32": (Tile(128, 128, 256, 0, 2, 0.8), Tile(64, 128, 128, 0, 3, 0.75), Tile(128, 128, 128, 0, 2, 0.83, "w"))}
# Multiply-adds that a multiprocessor of an H100 does in a clock, by mma.sync and by FFMA.
RATES = {"fp16": 1280, "tf32": 640, "fp32": 128}
STARTING = 2500  # clocks that a block spends before and after its steps
MULTIPROCESSORS = 132  # of an H100
SUM_BYTES = 16  # bytes of partial sums that a multiprocessor reads or writes in a clock
MOST_SPLITS = 16
# Bytes of dynamic shared memory that a block may have, less the 2 KB that the kernels declare.
SHARED = {(8, 0): 161 << 10, (8, 7): 161 << 10, (9, 0): 225 << 10, (10, 0): 225 << 10, (10, 3): 225 << 10}
SHARED_ELSEWHERE = 97 << 10


@dataclass(frozen=True)
class Plan:
    """How a convolution is cut: ``TILES[precision][tile]``, and into how many shares its sums."""

    tile: int
    splits: int


@dataclass(frozen=True)
class Job:
    """What a convolution asks of the kernels, whatever the plan.

    Attributes
    ----------
    precision : str
    pixels : int
        Of all images, output side.
    outputs, group : int
        ``outputs`` of one group.
    steps : int
        What a tile walks through: `STEP` chunks each (channels and taps), or one tap of `STEP` channels in fp32.
    """

    precision: str
    pixels: int
    outputs: int
    group: int
    steps: int

    @classmethod
    def of(cls, x: Sequence[int], y: Sequence[int], windows: Sequence[Window], group: int, precision: str) -> Job:
        """Read it off the shapes of x (N, C, H, W) and y (N, M, out_h, out_w).

        Raises
        ------
        DeviceError
            More numbers than the kernels' integers count.
        """
        channels, taps = x[1] // group, taps_of(windows)
        if precision == "fp32":
            steps, line = -(-channels // STEP) * taps, -(-channels // STEP) * STEP
        else:
            chunks = chunks_of(channels, precision)
            steps, line = -(-taps * chunks // STEP), chunks * PER_CHUNK[precision]
        if max(x[0] * x[2] * x[3] * line * group, y[0] * y[1] * y[2] * y[3]) > MOST:
            raise DeviceError(f"implicit convolution: expected at most {MOST} numbers, got an input of shape "
                              f"{tuple(x)} and an output of shape {tuple(y)}; use a smaller batch")
        return cls(precision, y[0] * y[2] * y[3], y[1] // group, group, steps)


def plans(job: Job, capability: tuple[int, int] = (9, 0)) -> list[Plan]:
    """Return the plans worth trying for a convolution on a device of this compute capability.

    The one expected to be fastest comes first, then the best one of each other tile, then the rest.
    """
    least = 16 if job.precision == "fp32" else 4  # steps of a share, for its pipeline to fill
    most_shared = SHARED.get(capability, SHARED_ELSEWHERE)
    best, rest = [], []
    for index, tile in enumerate(TILES[job.precision]):
        if tile.shared > most_shared:
            continue
        found = []
        for wanted in range(1, max(1, min(MOST_SPLITS, job.steps // least)) + 1):
            share = -(-job.steps // wanted)
            if -(-job.steps // share) == wanted:  # else the last shares were empty
                found.append(Plan(index, wanted))
        found.sort(key=lambda plan: clocks_of(job, plan))
        best.append(found[0])
        rest += found[1:]
    return [*sorted(best, key=lambda plan: clocks_of(job, plan)), *sorted(rest, key=lambda plan: clocks_of(job, plan))]


def plan_of(job: Job, multiprocessors: int = MULTIPROCESSORS) -> Plan:
    """Return the plan expected to be fastest."""
    return min(plans(job), key=lambda plan: clocks_of(job, plan, multiprocessors))


def clocks_of(job: Job, plan: Plan, multiprocessors: int = MULTIPROCESSORS) -> float:
    """Estimate how many clocks a plan takes, from the busiest multiprocessor (a model, not a measurement)."""
    tile = TILES[job.precision][plan.tile]
    blocks = -(-job.outputs // tile.channels) * -(-job.pixels // tile.pixels) * job.group * plan.splits
    most = -(-blocks // multiprocessors)
    depth = STEP * PER_CHUNK.get(job.precision, 1)
    step = tile.channels * tile.pixels * depth / (RATES[job.precision] * tile.rate)
    busy = min(1.0, 0.6 + 0.4 * most / tile.resident)  # fewer blocks hide less of each other's waiting
    clocks = most * -(-job.steps // plan.splits) * step / busy + -(-most // tile.resident) * STARTING
    if plan.splits > 1:
        clocks += 4 * (2 * plan.splits + 1) * job.pixels * job.outputs * job.group / (multiprocessors * SUM_BYTES)
        clocks += STARTING
    return clocks


def implicit_supported(windows: Sequence[Window], group: int, channels: int, outputs: int, precision: str,
                       capability: tuple[int, int]) -> bool:
    """Whether `implicit_forward` takes such a convolution.

    Parameters
    ----------
    windows : sequence of Window
    group, channels, outputs : int
        All channels and outputs, of every group.
    precision : {"fp32", "tf32", "fp16"}
    capability : (int, int)
        Compute capability of the device; tensor cores are used from (8, 0) on.

    Notes
    -----
    Groups of a few channels (depthwise) are left to other kernels: tiles of 64 outputs would stay empty.
    """
    if len(windows) != 2 or any(w.kernel > MOST_TAPS for w in windows) or precision not in TILES:
        return False
    if group > 1 and (channels // group < 16 or outputs // group < 16):
        return False
    return precision == "fp32" or tuple(capability) >= (8, 0)


def _rows(outputs: int) -> int:
    """Rows of packed weights: whole tiles, of 64 or of 128 outputs."""
    return 64 if outputs <= 64 else -(-outputs // 128) * 128


def chunks_of(channels: int, precision: str) -> int:
    """Chunks of a packed pixel of one group: 1, 2, 4 or a multiple of 8."""
    chunks = -(-channels // PER_CHUNK[precision])
    return 1 << (chunks - 1).bit_length() if chunks <= 8 else -(-chunks // 8) * 8


def _suffix(precision: str) -> str:
    return "f16" if precision == "fp16" else precision


def pack_weight(weight: Any, precision: str, group: int = 1) -> Any:
    """Return a weight (M, C/group, kernel_h, kernel_w) in the order and type that the kernels read.

    float16 or float32; rows of outputs and the ends of rows are filled up with zeros.
    """
    xp = module_of(weight)
    outputs, channels = weight.shape[0] // group, weight.shape[1]
    taps = weight.shape[2] * weight.shape[3]
    rows = _rows(outputs)
    if precision == "fp32":
        blocks = -(-channels // STEP)
        packed = xp.empty((group, blocks, taps, STEP, rows), np.float32)
        args = [packed.size, outputs, rows, channels, blocks, taps]
    else:
        per, chunks = PER_CHUNK[precision], chunks_of(channels, precision)
        line = -(-taps * chunks // STEP) * STEP
        packed = xp.empty((group, rows, line * per), np.float16 if precision == "fp16" else np.float32)
        args = [packed.size, outputs, rows, channels, chunks, taps, line]
    launch("conv_pack", f"pack_weight_{_suffix(precision)}", packed.size, (weight, packed, *args))
    return packed


def pack_activations(x: Any, precision: str, group: int = 1) -> Any:
    """Return x (N, C, H, W) as (N, pixels, group, channels), rounded; channels filled up with zeros.

    Parameters
    ----------
    x : (N, C, H, W) float32 array
    precision : {"tf32", "fp16"}
    group : int
    """
    xp = module_of(x)
    images, channels = x.shape[0], x.shape[1] // group
    area = x.shape[2] * x.shape[3]
    chunks = chunks_of(channels, precision)
    packed = xp.empty((images, area, group, chunks * PER_CHUNK[precision]),
                      np.float16 if precision == "fp16" else np.float32)
    across = min(3, chunks.bit_length() - 1)
    grid = (-(-area // (512 >> across)), -(-chunks // (1 << across)) * group, images)
    launch("conv_pack", f"pack_{_suffix(precision)}", grid, (x, packed, channels, chunks, area, across))
    return packed


def implicit_forward(x: Any, weight: Any, bias: Any, y: Any, windows: Sequence[Window], group: int = 1, *,
                     precision: str, relu: bool = False, packed_weight: Any = None, packed_x: Any = None,
                     packed_y: Any = None, plan: Plan | None = None) -> None:
    """Write ``y = conv(x, weight) + bias``, and its ReLU where asked.

    Parameters
    ----------
    x : (N, C, H, W) float32 array
    weight : (M, C/group, kernel_h, kernel_w) float32 array
    bias : (M,) float32 array or None
    y : (N, M, out_h, out_w) float32 array, written
        Only its shape is used where `packed_y` is given.
    windows : sequence of two Window
    group : int
    precision : {"fp32", "tf32", "fp16"}
    relu : bool
    packed_weight : array, optional
        What `pack_weight` made of `weight`.
    packed_x : array, optional
        What `pack_activations` made of `x`, whose values are then not read.
    packed_y : (N, pixels, 1, channels) float16 array, optional
        Written in place of y, as `pack_activations` would make it; for ``"fp16"`` and one group.
    plan : Plan, optional
        Of `plans`; by default `plan_of`.

    Raises
    ------
    DeviceError
        A convolution that `implicit_supported` or the arguments exclude.
    """
    if not y.size:
        return
    xp, outputs = module_of(x), y.shape[1] // group
    job = Job.of(x.shape, y.shape, windows, group, precision)
    plan = plan or plan_of(job)
    tile = TILES[precision][plan.tile]
    if packed_y is not None and (precision != "fp16" or group != 1):
        raise DeviceError(f"implicit convolution: expected fp16 and one group for a packed result, got {precision} and "
                          f"{group} groups")
    if packed_weight is None:
        packed_weight = pack_weight(weight, precision, group)
    source, chunks = x, x.shape[1] // group
    if precision != "fp32":
        source = pack_activations(x, precision, group) if packed_x is None else packed_x
        chunks = source.shape[-1] // PER_CHUNK[precision]
    whole, packed_chunks = plan.splits == 1, 0
    if packed_y is not None:
        packed_chunks = packed_y.shape[-1] // PER_CHUNK["fp16"]
        parts = None if whole else xp.empty((plan.splits, *packed_y.shape), np.float32)
    else:
        parts = y if whole else xp.empty((plan.splits, *y.shape), np.float32)
    args = [source, packed_weight, bias if whole else None, parts]
    if precision != "fp32":
        args += [packed_y if whole else None, packed_chunks]
    args += [job.pixels, *x.shape[2:], chunks, outputs, *y.shape[2:], *geo_of(windows), -(-job.steps // plan.splits),
             relu and whole]
    grid = (-(-outputs // tile.channels) * -(-job.pixels // tile.pixels), group, plan.splits)
    launch("conv_implicit" if precision != "fp32" else "conv_implicit_fp32",
           f"implicit_{_suffix(precision)}_{tile.name}", grid, args, block=tile.threads,
           shared=tile.shared)
    if whole:
        return
    if packed_y is not None:
        launch("conv_implicit", "sum_parts_f16", job.pixels * packed_chunks, (
            parts, bias, packed_y, job.pixels * packed_chunks, plan.splits, outputs, packed_chunks, relu))
    else:
        launch("conv_implicit", "sum_parts", y.size, (
            parts, bias, y, y.size, plan.splits, y.shape[1], y.shape[2] * y.shape[3], relu))
