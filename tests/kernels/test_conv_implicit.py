"""The implicit convolutions against naive float64 products of the rounded operands."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.errors import DeviceError
from atrouscaffe.geometry import Window
from atrouscaffe.ops import conv_implicit_cuda as implicit
from atrouscaffe.ops.conv import conv_forward
from atrouscaffe.ops.conv_implicit_cuda import Job, Plan
from atrouscaffe.runtime.backend import get_backend
from atrouscaffe.runtime.cuda import load_cupy

PRECISIONS = ("fp16", "tf32", "fp32")
on_kernels = pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)


def rounded(values: np.ndarray, precision: str) -> np.ndarray:
    """What the precision's operands are, in float64: IEEE half, or 10 bits behind the point, ties away from zero."""
    if precision == "fp16":
        return np.clip(values, -65504, 65504).astype(np.float16).astype(np.float64)
    if precision == "tf32":
        mantissa, exponent = np.frexp(values.astype(np.float64))
        return np.ldexp(np.trunc(mantissa * 2048 + np.copysign(0.5, mantissa)), exponent - 11)
    return values.astype(np.float64)


def naive(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, windows: tuple[Window, Window], group: int,
          relu: bool) -> np.ndarray:
    """Convolve in float64, tap by tap."""
    h, w = windows
    out = h.conv_size(x.shape[2]), w.conv_size(x.shape[3])
    padded = np.pad(x, ((0, 0), (0, 0), (h.pad, h.pad), (w.pad, w.pad)))
    y = np.zeros((len(x), len(weight), *out))
    per_in, per_out = weight.shape[1], len(weight) // group
    for g in range(group):
        for ty in range(h.kernel):
            for tx in range(w.kernel):
                top, left = ty * h.hole, tx * w.hole
                seen = padded[:, g * per_in : (g + 1) * per_in, top : top + (out[0] - 1) * h.stride + 1 : h.stride,
                              left : left + (out[1] - 1) * w.stride + 1 : w.stride]
                rows = slice(g * per_out, (g + 1) * per_out)
                y[:, rows] += np.einsum("mc,nchw->nmhw", weight[rows, :, ty, tx], seen)
    if bias is not None:
        y += bias.astype(np.float64)[:, None, None]
    return np.maximum(y, 0) if relu else y


def check(rng: np.random.Generator, precision: str, shape: tuple[int, ...], outputs: int,
          windows: tuple[Window, Window], group: int = 1, *, relu: bool = False, bias: bool = True,
          plan: Plan | None = None) -> None:
    """Run one convolution and compare it; sums of K float32 products may be off by some float32 roundings."""
    cupy = load_cupy()
    kernel = tuple(w.kernel for w in windows)
    x = rng.standard_normal(shape, np.float32)
    weight = rng.standard_normal((outputs, shape[1] // group, *kernel), np.float32)
    shift = rng.standard_normal(outputs, np.float32) if bias else None
    expected = naive(rounded(x, precision), rounded(weight, precision), shift, windows, group, relu)
    y = cupy.full(expected.shape, np.nan, np.float32)
    implicit.implicit_forward(cupy.asarray(x), cupy.asarray(weight), None if shift is None else cupy.asarray(shift), y,
                              windows, group, precision=precision, relu=relu, plan=plan)
    np.testing.assert_allclose(y.get(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


CASES = {  # shape of x, outputs, windows, group, relu, bias
    "3 channels, stride 2": ((2, 3, 9, 11), 5, (Window(3, 2, 1), Window(3, 2, 1)), 1, True, True),
    "8 channels, hole 2": ((1, 8, 7, 5), 21, (Window(3, 1, 2, 2), Window(3, 1, 2, 2)), 1, False, True),
    "64 channels, hole 12": ((1, 64, 13, 15), 7, (Window(3, 1, 12, 12), Window(3, 1, 12, 12)), 1, True, True),
    "72 channels, axes differ": ((2, 72, 7, 9), 70, (Window(3, 1, 4, 4), Window(1, 2)), 1, False, False),
    "21 channels, window 5 x 2": ((1, 21, 10, 6), 130, (Window(5, 1, 2), Window(2, 1, 1, 3)), 1, False, True),
    "1 x 1": ((2, 40, 5, 7), 21, (Window(1), Window(1)), 1, False, True),
    "2 groups": ((1, 36, 6, 5), 34, (Window(3, 1, 1), Window(3, 1, 1)), 2, True, True),
    "15 taps along an axis": ((1, 3, 17, 6), 4, (Window(15, 1, 2), Window(1)), 1, False, True),
    "a window that sees no pixel": ((1, 4, 2, 2), 3, (Window(2, 1, 6, 9), Window(2, 3, 6, 5)), 1, False, True),
}


@on_kernels
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_forward(device, rng, precision, case):
    shape, outputs, windows, group, relu, bias = case
    check(rng, precision, shape, outputs, windows, group, relu=relu, bias=bias)


@on_kernels
@pytest.mark.parametrize(("precision", "tile"), [(p, t) for p in PRECISIONS for t in range(len(implicit.TILES[p]))])
@pytest.mark.parametrize("splits", [1, 3])
def test_every_kernel(device, rng, precision, tile, splits):
    """Each tile, over a border of pixels and of outputs and between two images; also in shares that are added."""
    windows = (Window(3, 1, 1), Window(3, 1, 1))
    check(rng, precision, (2, 40, 9, 16), 137, windows, relu=True, plan=Plan(tile, splits))


@on_kernels
@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_axis(device, rng, precision, monkeypatch):
    monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", "implicit")
    cupy = load_cupy()
    x, weight = rng.standard_normal((2, 16, 23), np.float32), rng.standard_normal((5, 16, 3), np.float32)
    window = Window(3, 2, 4, 3)
    expected = naive(rounded(x[:, :, None], precision), rounded(weight[:, :, None], precision), None,
                     (Window(1), window), 1, False)[:, :, 0]
    y = cupy.empty(expected.shape, np.float32)
    with get_backend("cuda", precision).active():
        conv_forward(cupy.asarray(x), cupy.asarray(weight), None, y, [window])
    np.testing.assert_allclose(y.get(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@on_kernels
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
@pytest.mark.parametrize(("channels", "group", "width"), [(3, 1, 1), (21, 1, 0), (64, 2, 0), (200, 1, 0)])
def test_packed_activations(device, rng, precision, channels, group, width):
    """Every value at its place, rounded once; what fills up is zero."""
    cupy = load_cupy()
    shape = (2, channels, 9, 33)
    x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(np.float32)
    packed = implicit.pack_activations(cupy.asarray(x), precision, group).get()
    per = channels // group
    values = rounded(x, precision).reshape(2, group, per, -1).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(packed[..., :per], values)
    assert not packed[..., per:].any()
    chunks = packed.shape[-1] * packed.itemsize // 16
    assert chunks in (1, 2, 4) or chunks % 8 == 0
    if width:
        assert chunks == width


@on_kernels
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_rounding(device, precision):
    """Ties, numbers beyond the largest half, infinities and NaN."""
    cupy = load_cupy()
    values = np.array([1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11, 65519, 65520, -1e38, 1e-40, 0, np.inf, -np.inf, np.nan],
                      np.float32)
    packed = implicit.pack_activations(cupy.asarray(values.reshape(1, -1, 1, 1)), precision).get()
    found = packed.ravel()[: len(values)].astype(np.float64)
    if precision == "fp16":
        expected = [1, 1 + 2**-9, -1, 65504, 65504, -65504, 0, 0, 65504, -65504, np.nan]
    else:
        expected = [*rounded(values[:8], "tf32"), np.inf, -np.inf, np.nan]
        assert expected[:3] == [1 + 2**-10, 1 + 2**-9, -1 - 2**-10]
        expected[6] = np.float64(np.array([0x00012000], np.uint32).view(np.float32)[0])  # subnormal: fixed steps
        assert abs(expected[6] - 1e-40) < 6e-42
    np.testing.assert_array_equal(found, expected)


@on_kernels
@pytest.mark.parametrize("tile", range(4))
@pytest.mark.parametrize("outputs", [21, 130])
@pytest.mark.parametrize("splits", [1, 2])
def test_packed_results(device, rng, tile, outputs, splits):
    """A packed result is the packed form of the plain one, whatever was in that memory before."""
    cupy = load_cupy()
    windows = (Window(3, 1, 2, 2), Window(3, 1, 2, 2))
    x, weight = rng.standard_normal((2, 24, 9, 16), np.float32), rng.standard_normal((outputs, 24, 3, 3), np.float32)
    bias = cupy.asarray(rng.standard_normal(outputs, np.float32))
    x, weight = cupy.asarray(x), cupy.asarray(weight)
    y = cupy.empty((2, outputs, 9, 16), np.float32)
    given = {"precision": "fp16", "relu": True, "packed_weight": implicit.pack_weight(weight, "fp16"),
             "packed_x": implicit.pack_activations(x, "fp16"), "plan": Plan(tile, splits)}
    implicit.implicit_forward(x, weight, bias, y, windows, **given)
    expected = implicit.pack_activations(y, "fp16")
    packed = cupy.full(expected.shape, np.nan, np.float16)
    implicit.implicit_forward(x, weight, bias, y, windows, packed_y=packed, **given)
    np.testing.assert_array_equal(packed.get(), expected.get())


@on_kernels
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nan_goes_through(device, precision):
    """A NaN pixel reaches the outputs that see it and no others, also behind a ReLU."""
    cupy = load_cupy()
    x, weight = np.ones((1, 8, 5, 6), np.float32), np.ones((3, 8, 3, 3), np.float32)
    x[0, 2, 4, 5] = np.nan
    y = cupy.empty((1, 3, 5, 6), np.float32)
    implicit.implicit_forward(cupy.asarray(x), cupy.asarray(weight), None, y, (Window(3, 1, 1), Window(3, 1, 1)),
                              precision=precision, relu=True)
    seen = np.zeros((5, 6), bool)
    seen[3:, 4:] = True
    np.testing.assert_array_equal(np.isnan(y.get()[0]), np.broadcast_to(seen, (3, 5, 6)))


@on_kernels
def test_packed_results_have_limits(device):
    cupy = load_cupy()
    x, weight, y = (cupy.zeros(shape, np.float32) for shape in ((1, 8, 4, 4), (8, 8, 1, 1), (1, 8, 4, 4)))
    packed = cupy.zeros((1, 16, 1, 8), np.float16)
    for precision in ("tf32", "fp32"):
        with pytest.raises(DeviceError, match="packed result"):
            implicit.implicit_forward(x, weight, None, y, (Window(1), Window(1)), precision=precision, packed_y=packed)


def test_what_is_supported():
    h = Window(3, 1, 1)
    for capability in ((7, 0), (8, 0), (9, 0)):
        tensor_cores = capability >= (8, 0)
        assert implicit.implicit_supported((h, h), 1, 64, 64, "fp16", capability) == tensor_cores
        assert implicit.implicit_supported((h, h), 1, 64, 64, "tf32", capability) == tensor_cores
        assert implicit.implicit_supported((h, h), 1, 64, 64, "fp32", capability)
    newest = (9, 0)
    assert implicit.implicit_supported((Window(15), h), 1, 3, 1, "fp16", newest)
    assert not implicit.implicit_supported((Window(16), h), 1, 3, 1, "fp16", newest)
    assert not implicit.implicit_supported((h, h, h), 1, 3, 1, "fp16", newest)
    assert not implicit.implicit_supported((h, h), 64, 64, 64, "fp16", newest)
    assert not implicit.implicit_supported((h, h), 1, 64, 64, "fp64", newest)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("shape", "outputs"), [((1, 512, 40, 40), 512), ((16, 3, 306, 306), 64), ((1, 8, 1, 1), 1)])
def test_plans(precision, shape, outputs):
    """No share is empty, none does another's work, and the default is the one expected to be fastest."""
    windows = (Window(3, 1, 1), Window(3, 1, 1))
    job = Job.of(shape, (shape[0], outputs, *shape[2:]), windows, 1, precision)
    found = implicit.plans(job)
    assert found[0] == implicit.plan_of(job)
    assert len(set(found)) == len(found)
    for plan in found:
        share = -(-job.steps // plan.splits)
        assert (plan.splits - 1) * share < job.steps <= plan.splits * share
    if shape[0] == 16:
        assert found[0].splits == 1  # enough tiles for every multiprocessor


@pytest.mark.parametrize(("capability", "limit"), [
    ((8, 0), 163), ((8, 6), 99), ((8, 9), 99), ((9, 0), 227), ((12, 0), 99)])
def test_plans_fit_into_shared_memory(capability, limit):
    """Limits in KB for a block, CUDA Programming Guide, technical specifications by compute capability."""
    job = Job.of((1, 64, 40, 40), (1, 64, 40, 40), (Window(1), Window(1)), 1, "fp16")
    tiles = {plan.tile for plan in implicit.plans(job, capability)}
    assert len(tiles) >= 3
    assert all(implicit.TILES["fp16"][tile].shared + 2048 <= limit << 10 for tile in tiles)
    assert {plan.tile for plan in implicit.plans(job, capability)[: len(tiles)]} == tiles  # each has its best one first


def test_few_tiles_are_split():
    """39 x 39 pixels and 512 channels are 48 tiles, or 24 where they are wide, for 132 multiprocessors."""
    windows = (Window(3, 1, 1), Window(3, 1, 1))
    for precision in PRECISIONS:
        job = Job.of((1, 512, 39, 39), (1, 512, 39, 39), windows, 1, precision)
        plan = implicit.plan_of(job)
        tile = implicit.TILES[precision][plan.tile]
        assert -(-512 // tile.channels) * -(-39 * 39 // tile.pixels) * plan.splits > 100


def test_too_many_numbers():
    windows = (Window(1), Window(1))
    with pytest.raises(DeviceError, match="smaller batch"):
        Job.of((3000, 64, 128, 128), (3000, 64, 128, 128), windows, 1, "fp16")
