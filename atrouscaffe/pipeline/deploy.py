"""A net as a function of one image: what it takes, what it gives, and how far it may be resized."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrouscaffe.data.paths import PathGuard
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, ShapeError
from atrouscaffe.formats.fields import default_fields
from atrouscaffe.graph.graph import Graph, included
from atrouscaffe.graph.report import Field, fields
from atrouscaffe.layers.base import Shape, layer_class
from atrouscaffe.spec import TEST, Fields, LayerSpec, NetSpec

__all__ = ["Deploy", "make_deploy"]

SINKS = {"MatWrite", "HDF5Output", "Silence", "Accuracy", "SegAccuracy", "Softmax", "ArgMax", "Histogram"}
"""Types that are left out when nothing reads them: what they are given is what is wanted."""

READERS = {"Data": "data_param", "ImageData": "image_data_param", "ImageSegData": "image_data_param",
           "ImageLabelmapData": "image_data_param", "DenseImageData": "dense_image_data_param",
           "WindowData": "window_data_param"}
"""Types in whose place an input is put, and the field of their options."""

SHIFTING = {
    "Input", "Convolution", "Deconvolution", "Pooling", "ReLU", "ReLU6", "PReLU", "ELU", "Sigmoid", "TanH", "BNLL",
    "AbsVal", "Power", "Exp", "Log", "Clip", "Swish", "Threshold", "Dropout", "Eltwise", "Concat", "Slice", "Split",
    "Interp", "Padding", "BN", "BatchNorm", "Scale", "Bias", "Upsample", "LRN", "Softmax", "ConvolutionDepthwise",
    "CReLU", "DepthwiseConvolution", "HardSigmoid", "HardSwish", "Mish", "Normalize", "ShuffleChannel",
}
"""Types for which a shifted input gives a shifted output, so that an image may be cut into tiles."""


@dataclass(frozen=True)
class Deploy:
    """A net reduced to what leads from an image to scores.

    Attributes
    ----------
    spec : NetSpec
        Data layers replaced by inputs; layers that do not lead to the scores left out.
    input : str
        Blob of the image.
    size : (int, int)
        Height and width that the file gives it.
    channels : int
    dims : tuple of str
        Inputs of shape (1, 1, 1, 2) that take the image's real height and width.
    score : str
        Blob of the scores, (1, C, h, w).
    transform : Fields or None
        ``transform_param`` of the layer that gave the image.
    paths : PathGuard
    """

    spec: NetSpec
    input: str
    size: tuple[int, int]
    channels: int
    dims: tuple[str, ...]
    score: str
    transform: Fields | None
    paths: PathGuard

    def spec_at(self, size: tuple[int, int]) -> NetSpec:
        """Return the net for another image size: Interp layers of fixed height and width grow along.

        Raises
        ------
        ArgumentError
            A fixed size does not stand in a whole ratio to the image's.
        """
        if size == self.size:
            return self.spec
        layers = []
        for spec in self.spec.layers:
            if spec.type == "Interp" and spec.fields.interp_param.has("height"):
                option = spec.fields.interp_param
                height, width = (_scaled(n, old, new, spec) for n, old, new
                                 in zip((option.height, option.width), self.size, size))
                changed = spec.fields.replace(interp_param=option.replace(height=height, width=width))
                spec = dataclasses.replace(spec, fields=changed)
            layers.append(spec)
        return dataclasses.replace(self.spec, layers=tuple(layers))

    def input_shapes(self, size: tuple[int, int]) -> dict[str, Shape]:
        """Return shapes of all inputs for one image of `size`."""
        return {self.input: (1, self.channels, *size), **dict.fromkeys(self.dims, (1, 1, 1, 2))}

    def graph_at(self, size: tuple[int, int]) -> Graph:
        """Return the graph for another image size, with the same parameters.

        Raises
        ------
        ArgumentError
            The net cannot be reshaped; the message says which layer stands in the way.
        """
        if size == self.size:
            return self._graph
        try:
            graph = Graph(self.spec_at(size), TEST, paths=self.paths, input_shapes=self.input_shapes(size))
        except AtrousCaffeError as error:
            raise ArgumentError(f"this net cannot be reshaped from {self.size[1]}x{self.size[0]} to "
                                f"{size[1]}x{size[0]} pixels ({error})", self.spec.path) from None
        self._same_parameters(graph, size)
        return graph

    @functools.cached_property
    def _graph(self) -> Graph:
        """The graph at the net's own size."""
        return Graph(self.spec, TEST, paths=self.paths, input_shapes=self.input_shapes(self.size))

    def _same_parameters(self, graph: Graph, size: tuple[int, int]) -> None:
        for old, new in zip(self.graph_at(self.size).nodes, graph.nodes):
            if [b.shape for b in old.blueprints] != [b.shape for b in new.blueprints]:
                raise ArgumentError(f"this net cannot be reshaped from {self.size[1]}x{self.size[0]} to "
                                    f"{size[1]}x{size[0]} pixels: the weights of layer {new.spec.name!r} "
                                    f"({new.spec.type}) would change their shape; cut the image to the net's size, or "
                                    "use the convolutional form of the net", self.spec.path)

    def fields(self) -> tuple[Field, Field]:
        """Return what a score sees of the image along (height, width)."""
        graph = self.graph_at(self.size)
        return fields(graph)[graph.latest(self.score)]

    def check(self) -> None:
        """Raise ArgumentError where no label map comes of the scores: they have one channel."""
        if self.graph_at(self.size).shape(self.score)[1] < 2:
            raise ArgumentError(f"output {self.score!r}: expected a score for each of at least 2 classes, got one "
                                "channel, which says how much and not which; run the net by itself (Net)",
                                self.spec.path)

    def lost(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return along each axis how many pixels at either end have no score, and how many lie between two scores.

        0 where scores cover the image as far as a few of their steps. Nets without padding lose what their
        layers see around each place.

        Raises
        ------
        ArgumentError
            Something is lost, and it is no whole number of pixels.
        """
        found = []
        shape = self.graph_at(self.size).shape(self.score)
        for side, count, field in zip(self.size, shape[2:], self.fields()):
            lost = side - count * field.step
            if field.everything or lost <= 2 * field.step + 16:
                found.append((0, 1))
                continue
            if lost % 2 or field.step.denominator != 1:
                raise ArgumentError(f"output {self.score!r}: {count} scores, one every {float(field.step):g} pixels, "
                                    f"do not lie in the middle of an image's {side} pixels; give the net an input "
                                    "that is larger by 1", self.spec.path)
            found.append((int(lost) // 2, int(field.step)))
        return found[0], found[1]

    def steps(self) -> tuple[int, int]:
        """Return by how many pixels the image may be shifted so that every layer shifts by whole pixels."""
        graph = self.graph_at(self.size)
        both = []
        for axis in (0, 1):
            steps = {field[axis].step for field in fields(graph) if not field[axis].everything}
            both.append(math.lcm(*(step.numerator for step in steps)))
        return both[0], both[1]

    @property
    def beliefs(self) -> bool:
        """Whether what comes out are probabilities already: those of a DenseCRF layer at the end."""
        last = self.spec.layers[-1]
        return last.type == "DenseCRF" and (self.spec.dialect == "v1" or last.fields.dense_crf_param.output_probability)

    @property
    def shifts(self) -> bool:
        """Whether all layers are of kinds for which a shifted image gives shifted scores."""
        return all(spec.type in SHIFTING and _axis(spec) == 1 for spec in self.spec.layers)


def _axis(spec: LayerSpec) -> int:
    """Return along which axis a layer joins, cuts or normalises; 1 for the others."""
    if spec.type == "Concat":
        return spec.fields.concat_param.axis if spec.fields.concat_param.has("axis") else 1
    if spec.type == "Slice":
        return spec.fields.slice_param.axis if spec.fields.slice_param.has("axis") else 1
    if spec.type == "Softmax":
        return spec.fields.softmax_param.axis
    return 1


def _scaled(n: int, old: int, new: int, spec: LayerSpec) -> int:
    """Return the size that stands to `new` as `n` to `old`, corners aligned."""
    size, rest = divmod((n - 1) * (new - 1), max(1, old - 1))
    if rest:
        step = (old - 1) // math.gcd(n - 1, old - 1)
        fits = max(1, (new - 1) // step) * step + 1
        raise ArgumentError(f"layer {spec.name!r} (Interp) has the fixed size {n} for an input of {old} pixels, and "
                            f"none corresponds to it at {new} pixels; sizes that fit are {step}k + 1, such as {fits} "
                            f"and {fits + step}")
    return size + 1


def make_deploy(net: NetSpec, output: str | None = None, allow_paths: Sequence[str | Path] = (),
                size: tuple[int, int] | None = None) -> Deploy:
    """Reduce a net of any kind (deploy, test, train_val) to what leads from one image to scores.

    Parameters
    ----------
    net : NetSpec
    output : str, optional
        Blob of the scores; by default the one map of several channels that nothing reads.
    allow_paths : sequence of path
    size : (int, int), optional
        Height and width of the images of a data layer that does not say it; with it an input also takes the
        place of a Python layer without bottoms.

    Raises
    ------
    ArgumentError, ShapeError
        No image goes in, or it is not clear what comes out.
    """
    paths = PathGuard(net.path, allow_paths)
    layers = [spec for spec in net.layers if included(spec, TEST, net.level, net.stages)]
    transform = next((spec.fields.transform_param for spec in layers
                      if not spec.bottoms and spec.fields.has("transform_param")), None)
    layers = [_as_input(spec, size) if spec.type in READERS or (size and spec.type == "Python" and not spec.bottoms)
              else spec for spec in layers]
    if output is None:
        layers = _without_sinks(layers)
    graph = Graph(dataclasses.replace(net, layers=tuple(layers)), TEST, paths=paths,
                  input_shapes=_single(layers))
    score = _score(graph, output)
    needed, wanted = set(), [graph.values[graph.latest(score)].producer[0]]
    while wanted:
        index = wanted.pop()
        if index not in needed:
            needed.add(index)
            wanted += [graph.values[value].producer[0] for value in graph.nodes[index].bottoms]
    kept = tuple(node.spec for node in graph.nodes if node.index in needed)
    image, dims = _inputs(graph, needed, net.path)
    shape = graph.shape(image)
    return Deploy(dataclasses.replace(net, layers=kept), image, (shape[2], shape[3]), shape[1], dims, score, transform,
                  paths)


def _as_input(spec: LayerSpec, size: tuple[int, int] | None) -> LayerSpec:
    """Return an Input layer in place of a data layer."""
    crop, option = spec.fields.transform_param, getattr(spec.fields, READERS.get(spec.type, "python_param"))
    if spec.type == "DenseImageData" and option.crop_height:
        crop = option
    height = crop.crop_height or getattr(crop, "crop_size", 0) or getattr(option, "new_height", 0)
    width = crop.crop_width or getattr(crop, "crop_size", 0) or getattr(option, "new_width", 0)
    if not height and size is None:
        raise ArgumentError(f"layer {spec.name!r} ({spec.type}) has no crop_size, so the net's input size is not "
                            "known; give a deploy net with an input instead", str(spec.source or ""))
    height, width = (height, width) if height else size
    color = getattr(option, "is_color", True)
    share = max(1, getattr(option, "label_divide_factor", 1))
    maps = spec.type in ("ImageSegData", "ImageLabelmapData", "DenseImageData", "Python")
    shapes = ((1, 3 if color else 1, height, width), (1, 1, height // share, width // share) if maps else (1,),
              (1, 1, height, width) if spec.type == "Python" else (1, 1, 1, 2))
    blobs = tuple(default_fields("BlobShape").replace(dim=shape) for shape in shapes[:len(spec.tops)])
    shape = default_fields("InputParameter").replace(shape=blobs)
    return LayerSpec(spec.name, "Input", (), spec.tops, default_fields("LayerParameter").replace(input_param=shape),
                     source=spec.source)


def _without_sinks(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    """Leave out layers at the end that score, write or normalise."""
    kept: list[LayerSpec] = []
    read: set[str] = set()
    for spec in reversed(layers):
        ends = spec.type in SINKS or layer_class(spec.type).is_loss
        tops = [top for top in spec.tops if top not in spec.bottoms]
        if ends and not read.intersection(tops) and (tops or not read.intersection(spec.tops)):
            continue
        kept.append(spec)
        read.update(spec.bottoms)
    return kept[::-1]


def _single(layers: Sequence[LayerSpec]) -> dict[str, Shape]:
    """Return the shapes of 4-D inputs for a batch of one."""
    shapes: dict[str, Shape] = {}
    for spec in layers:
        if spec.type == "Input":
            given = spec.fields.input_param.shape
            for i, top in enumerate(spec.tops):
                if given:
                    dims = tuple(int(n) for n in given[i if len(given) > 1 else 0].dim)
                    if len(dims) == 4:
                        shapes[top] = (1, *dims[1:])
    return shapes


def _score(graph: Graph, output: str | None) -> str:
    """Choose the blob of the scores."""
    if output is not None:
        if all(value.name != output for value in graph.values):
            names = ", ".join(name for name in graph.outputs if name)
            raise ArgumentError(f"output: the net has no blob {output!r}; nothing reads {names}", graph.net.path)
        shape = graph.shape(output)
        if len(shape) != 4:
            raise ShapeError(f"output {output!r}: expected scores of shape (1, classes, height, width), got {shape}",
                             graph.net.path)
        return output
    makers = {name: graph.nodes[graph.values[graph.latest(name)].producer[0]] for name in graph.outputs if name}
    maps = [name for name, node in makers.items() if len(graph.shape(name)) == 4 and graph.shape(name)[1] > 1
            and node.spec.type != "Input" and node.spec.tops[0] == name]
    if len(maps) != 1:
        found = ", ".join(f"{name} {graph.shape(name)}" for name in makers) or "none"
        raise ArgumentError(f"expected one output of shape (1, classes, height, width), got {found}; name the blob of "
                            "the scores with output=", graph.net.path)
    return maps[0]


def _inputs(graph: Graph, needed: set[int], path: str) -> tuple[str, tuple[str, ...]]:
    """Return the image's blob and those that take its height and width."""
    names = {graph.values[top].name: graph.values[top].shape for node in graph.nodes
             if node.index in needed and node.spec.type == "Input" for top in node.tops}
    read = {graph.values[value].name for node in graph.nodes if node.index in needed for value in node.bottoms}
    images = [name for name, shape in names.items()
              if name in read and len(shape) == 4 and shape[1] in (1, 3) and shape[2:] != (1, 2)]
    dims = tuple(name for name, shape in names.items() if shape == (1, 1, 1, 2))
    other = [name for name in names if name in read and name not in images[:1] and name not in dims]
    others = [node.spec.name for node in graph.nodes if node.index in needed and not node.bottoms
              and node.spec.type not in ("Input", "Parameter")]
    if not images or other or others:
        raise ArgumentError("expected a net with one image input of 1 or 3 channels (and at most a data_dim), got "
                            f"{', '.join([*names, *others]) or 'none'}", path)
    return images[0], dims
