"""How fast a net runs and trains on the device at hand, and nets of other input sizes or random weights."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats.fields import default_fields
from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.graph.graph import Graph
from atrouscaffe.graph.report import describe
from atrouscaffe.layers.windows import conv_windows
from atrouscaffe.net import Net
from atrouscaffe.pipeline.registry import find_prototxt
from atrouscaffe.solver.spec import SolverSpec, read_spec
from atrouscaffe.solver.updater import Updater
from atrouscaffe.spec import TEST, TRAIN, LayerSpec, NetSpec

__all__ = ["TrainingStep", "fill_at_random", "fit_side", "forward_seconds", "geometry", "sized_net", "training_seconds"]

TRAIN_VARIABLES = {"DATA_ROOT": "", "EXP": "voc12", "TRAIN_SET": "train_aug", "NUM_LABELS": "21"}
"""What the training nets of `prototxt/` want to be told beside their name, as on VOC."""

STEP = 8
TILE = 1 << 20
PIXEL_RANGE = 50  # of photographs with the mean subtracted


def fit_side(side: int, written: int) -> int:
    """Return the side nearest to `side` that differs from the written one by whole steps of 8 pixels."""
    if side < 33:
        raise ArgumentError(f"input size: expected at least 33 pixels, got {side}")
    return written - STEP * round((written - side) / STEP)


def sized_net(spec: NetSpec, side: int | None) -> NetSpec:
    """Return a deploy net for square images of about `side` pixels; None leaves it as it is."""
    if side is None:
        return spec
    first = spec.layers[0]
    channels, written = (int(n) for n in first.fields.input_param.shape[0].dim[1:3])
    fitted = fit_side(side, written)
    layer = _input(first.name, first.tops, [(1, channels, fitted, fitted)])
    return dataclasses.replace(spec, layers=(layer, *spec.layers[1:]))


def _input(name: str, tops: Sequence[str], shapes: Sequence[Sequence[int]]) -> LayerSpec:
    blobs = tuple(default_fields("BlobShape").replace(dim=tuple(shape)) for shape in shapes)
    option = default_fields("InputParameter").replace(shape=blobs)
    return LayerSpec(name, "Input", (), tuple(tops), default_fields("LayerParameter").replace(input_param=option))


def fill_at_random(net: Net, seed: int = 0) -> None:
    """Give all weights random values that keep activations in range (He et al.), and biases 0.

    A million numbers are drawn and repeated: what matters is that the passes do the real work.
    """
    rng = np.random.default_rng(seed)
    tile = rng.standard_normal(TILE, dtype=np.float32)
    inputs = {node.tops[0] for node in net.graph.nodes if not node.bottoms}
    first = {node.spec.name for node in net.graph.nodes if inputs.intersection(node.bottoms)}
    for name, blobs in net.params.items():
        for blob in blobs:
            if len(blob.shape) < 2:
                blob.data[...] = 0
                continue
            fan = max(1, blob.count // blob.shape[0]) * (PIXEL_RANGE**2 if name in first else 1)
            values = np.resize(np.roll(tile, int(rng.integers(TILE))), blob.shape)
            np.multiply(values, np.float32((2 / fan) ** 0.5), out=blob.data)


def forward_seconds(model: str, side: int, device: str = "cpu", repeats: int = 3, *,
                    precision: str = "fp32") -> tuple[float, int]:
    """Return the median time of a forward pass of one image, and the side of the square it was given.

    Weights are random: the time does not depend on them.
    """
    spec = sized_net(read_net(find_prototxt(model)), side)
    net = Net(spec, TEST, keep=[], device=device, precision=precision, seed=0)
    fill_at_random(net)
    name = net.inputs[0]
    net.blobs[name].data[...] = np.random.default_rng(0).normal(0, 50, net.blobs[name].shape)
    times = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        net.forward()
        net.backend.synchronize()
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:])), net.blobs[name].shape[2]


class TrainingStep:
    """An iteration of a model's own train net and solver, on random images and labels.

    Forward, backward and update; reading and decoding images is left out.

    Parameters
    ----------
    model : str
        One of the paper's.
    batch : int
    side : int, optional
        Crop, in place of the train net's.
    device : str
    precision : {"fp32", "tf32"}

    Attributes
    ----------
    net : Net
    solver : SolverSpec
    crop : int
        The crop's side.
    data, label : str
        Blobs of images and labels.
    """

    def __init__(self, model: str, batch: int = 1, side: int | None = None, device: str = "cpu",
                 precision: str = "fp32") -> None:
        if precision == "fp16":
            raise ArgumentError("precision: expected 'fp32' or 'tf32' for training, got 'fp16'; --no-train-speed "
                                "leaves the training out")
        path = find_prototxt(model).with_name("train.prototxt")
        spec = read_net(path, variables={"NET_ID": model, **TRAIN_VARIABLES})
        source = spec.layers[0]
        self.data, self.label = source.tops[:2]
        written = source.fields.transform_param.crop_size
        self.crop = crop = written if side is None else fit_side(side, written)
        shapes = [(batch, 3, crop, crop), (batch, 1, crop, crop)]
        layer = _input(source.name, source.tops[:2], shapes)
        self.net = Net(dataclasses.replace(spec, layers=(layer, *spec.layers[1:])), TRAIN, device=device,
                       precision=precision, seed=0)
        fill_at_random(self.net)
        self.solver: SolverSpec = read_spec(path.with_name("solver.prototxt"),
                                            variables={"NET_ID": model, "EXP": "voc12"})
        self._updater = Updater(self.net.learnable, self.solver)
        rng = np.random.default_rng(0)
        self.net.blobs[self.data].data[...] = rng.normal(0, 50, shapes[0])
        self.net.blobs[self.label].data[...] = rng.integers(0, 21, shapes[1])

    def __call__(self) -> None:
        """Run one iteration, and wait for it."""
        self.net.clear_param_diffs()
        self.net.forward()
        self.net.backward()
        self._updater.apply(0.0, 0, self._updater.sum_of_squares())
        self.net.backend.synchronize()


def training_seconds(model: str, batch: int = 1, side: int | None = None, device: str = "cpu",
                     steps: int = 1, *, precision: str = "fp32") -> tuple[float, int]:
    """Return the time of a training iteration an image, and the crop's side; see `TrainingStep`.

    Parameters
    ----------
    model, batch, side, device, precision
    steps : int
        Iterations counted, behind one that is not.
    """
    step = TrainingStep(model, batch, side, device, precision)
    times = []
    for _ in range(1 + steps):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return float(np.mean(times[1:])) / batch, step.crop


class Geometry(NamedTuple):
    """Kernel and hole of a net's fc6, its receptive field by the paper's rule, and its parameters."""

    kernel: int
    hole: int
    field_px: int
    parameters: int


def geometry(model: str) -> Geometry:
    """Return the figures of Table 2 that follow from a model's deploy net."""
    graph = Graph(read_net(find_prototxt(model)), TEST)
    found = describe(graph)
    option = next(node.spec.fields.convolution_param for node in graph.nodes if node.spec.name == "fc6")
    window = conv_windows(option, 2)[0]
    return Geometry(window.kernel, window.hole, found["receptive_field"]["paper_padded"], found["parameters"])
