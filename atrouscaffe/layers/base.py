"""What a layer is, and how types are found.

A layer holds what its prototxt said and nothing that changes: shapes are inferred by pure methods,
so that checks, memory plans and ``inspect`` need neither weights nor a device; activations live in
blobs, and what must survive from forward to backward lives in the net's `Context` for that layer.

Adding a layer is one file with one class in this folder; a file named after its type in small
letters, with or without underscores, is found without importing the others::

    @register
    class AbsVal(Layer):
        type = "AbsVal"
        in_place = True
        ...
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from atrouscaffe.data.paths import PathGuard
from atrouscaffe.errors import GraphError, LayerError, ShapeError, nearest
from atrouscaffe.formats.declare import Inner, declare
from atrouscaffe.layers.tail import Tail
from atrouscaffe.ops.keep import Keep, make_anew
from atrouscaffe.plugins import load_plugins
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import TRAIN, Fields, LayerSpec, Phase

__all__ = ["GLOBAL", "POINTWISE", "Blueprint", "Context", "Env", "Inner", "Layer", "Reach", "Shape", "layer_class",
           "layer_types", "make_layer", "register"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Env:
    """What a layer is told when it is made: the net's phase and dialect, where files may be, whether code may run,
    whether images that cannot be read are passed over, whether the net was written for SegNet's Caffe."""

    phase: Phase
    dialect: str = "bvlc"
    paths: PathGuard = field(default_factory=PathGuard)
    allow_python: bool = False
    skip_bad_images: bool = False
    segnet: bool = False


@dataclass(frozen=True)
class Blueprint:
    """One parameter blob: its shape, its filler, and a name for errors and tables."""

    shape: Shape
    filler: Fields | None = None
    name: str = "weight"
    value: float = 0.0  # constant start where there is no filler message
    learned: bool = True  # False: statistics, which no solver may touch (BatchNorm)


class _Saved(dict):
    """What forward left for backward; to miss something there means that backward came first."""

    def __missing__(self, key: str) -> Any:
        raise GraphError("backward needs a forward pass before it, in the present shapes of the inputs")


class Context:
    """What one layer of one net may use while it runs.

    Attributes
    ----------
    backend : CpuBackend or CudaBackend
    xp : module
        NumPy, or the device's equal, for elementwise words.
    phase : Phase
    keeps : bool
        False: no backward follows, so that nothing needs to be saved for one.
    relu : bool
        The layer also does the work of the ReLU behind it, which does not run (`atrouscaffe.graph.fuse`).
    tail : Tail or None
        On the CPU, the layers after it whose work the layer does, which do not run; only kinds that it `takes`.
    placed : tuple of bool
        Which bottoms already lie where the layer would copy them to.
    packed : (bool, bool)
        The first bottom, and the first top, hold packed values (`atrouscaffe.ops.packed`); only for layers that
        `atrouscaffe.graph.fuse` names.
    rng : numpy.random.Generator
        The layer's own stream, seeded by net seed and layer index.
    saved : dict
        From forward to the backward that follows (masks, indices). Not kept longer, nor beyond a change
        of shapes; a key that is not there raises GraphError.
    state : dict
        From one forward to the next (position in a list, order of an epoch); JSON's types only,
        since snapshots store it.
    propagate : tuple of bool
        In backward: which bottoms need their ``grad`` written.
    param_propagate : tuple of bool
        In backward: which parameters need their ``grad`` added to.
    """

    def __init__(self, backend: Any, phase: Phase, rng: np.random.Generator) -> None:
        self.backend = backend
        self.xp = backend.xp
        self.phase = phase
        self.keeps = True
        self.relu = False
        self.tail: Tail | None = None
        self.placed: tuple[bool, ...] = ()
        self.packed = (False, False)
        self.rng = rng
        self.saved: dict[str, Any] = _Saved()
        self.state: dict[str, Any] = {}
        self.propagate: tuple[bool, ...] = ()
        self.param_propagate: tuple[bool, ...] = ()


    @property
    def engine(self) -> str | None:
        """The way that convolutions take on this device; None chooses for each."""
        return self.backend.engine

    def keep(self, param: Blob) -> Keep:
        """Return what keeps values derived from a parameter until it changes; in training nothing is kept."""
        if self.phase == TRAIN or self.backend.xp is not np:
            return make_anew
        return functools.partial(param.derived, watched=self.keeps)


@dataclass(frozen=True)
class Reach:
    """How a layer's output pixels reach into its input along one axis: for stride and receptive field.

    Output pixel i reads `extent` input pixels that begin at ``i*stride - pad``; ``up`` is the factor
    by which a layer enlarges (Interp's zoom, Deconvolution's stride). ``everything`` means that each
    output pixel may read the whole input.
    """

    extent: int = 1
    stride: int = 1
    pad: int = 0
    up: int = 1
    everything: bool = False


POINTWISE = Reach()
GLOBAL = Reach(everything=True)


class Layer:
    """Base of all layers.

    Class attributes say what the graph may assume.

    Attributes
    ----------
    type : str
        Caffe's type name.
    options : str
        Field of LayerParameter that holds the layer's own options, "" for none.
    message : mapping of str to object
        The fields of that message, where it is not in ``formats/caffe.proto``: a plug-in's, each with its default.
        A float, int, bool or str is one; a type is a field without a default; ``[float]`` is repeated; a tuple of
        words is an enum, the first one its default; ``Inner("FillerParameter")`` is a message of Caffe.
    number : int
        The number of that field in binary files, from 30000 on; 0 keeps it out of them.
    bottoms, tops : tuple of (int, int or None)
        Fewest and most; None is no limit.
    auto_tops : int
        As many tops are made (nameless) where the prototxt gives fewer (losses; data layers).
    same_tops : bool
        As many tops as bottoms.
    in_place : bool
        Whether a top may be the same blob as a bottom (first top with first bottom).
    is_loss : bool
        The first top counts with weight 1 unless the prototxt says otherwise.
    has_backward : bool
        False: gradients end here; asking for them through this layer is an error of the graph.
    same_values : bool
        Each top holds the bottom's values, one after another as they are there.
    backward_reads : tuple of str
        Of ``"bottom"`` and ``"top"``: values that backward looks at, so that memory plans keep them.
    """

    type: ClassVar[str] = ""
    options: ClassVar[str] = ""
    message: ClassVar[Mapping[str, Any]] = {}
    number: ClassVar[int] = 0
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    auto_tops: ClassVar[int] = 0
    same_tops: ClassVar[bool] = False
    in_place: ClassVar[bool] = False
    is_loss: ClassVar[bool] = False
    has_backward: ClassVar[bool] = True
    same_values: ClassVar[bool] = False
    backward_reads: ClassVar[tuple[str, ...]] = ("bottom", "top")

    def __init__(self, spec: LayerSpec, env: Env) -> None:
        self.spec = spec
        self.env = env
        self.p: Any = getattr(spec.fields, self.options) if self.options else None
        self.setup()

    @property
    def name(self) -> str:
        """The layer's name in the prototxt."""
        return self.spec.name

    def setup(self) -> None:
        """Check the options; called once. Raises LayerError."""

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape of each top; pure. Raises ShapeError or LayerError."""
        raise LayerError(f"type {self.type}: shapes are not defined")

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Return the parameter blobs that the layer needs; pure."""
        return []

    def bind(self, params: Sequence[Blob]) -> None:
        """Look at the parameter blobs that a net has made, once, before weights are read into them."""

    def allows_gradient(self, bottom: int) -> bool:
        """Whether bottom `bottom` may receive a gradient (labels may not)."""
        return True

    def loss_weight(self, top: int) -> float:
        """Weight of top `top` in the net's loss: the prototxt's, else 1 for a loss layer's first top."""
        if top < len(self.spec.loss_weights):
            return self.spec.loss_weights[top]
        return 1.0 if self.is_loss and top == 0 and not self.spec.loss_weights else 0.0

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write ``top[i].array`` from ``bottom[i].array`` and ``params[i].array``."""
        raise LayerError(f"type {self.type}: forward is not defined")

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Overwrite ``bottom[i].grad`` where ``ctx.propagate[i]``, add to ``params[i].grad`` where
        ``ctx.param_propagate[i]``, from ``top[i].grad``."""
        raise LayerError(f"type {self.type} has no backward; gradients cannot pass through it")

    # -- what the graph may do with it in a net that keeps few blobs (`atrouscaffe.layers.tail`) ----

    def kind(self, bottoms: Sequence[Shape]) -> str:
        """Return what another layer could do for this one: a kind of `atrouscaffe.layers.tail`, "" for nothing."""
        return ""

    def takes(self, bottoms: Sequence[Shape]) -> Sequence[str]:
        """Return the kinds of layers whose work `forward` also does where ``ctx.tail`` says so."""
        return ()

    def affine(self, params: Sequence[Blob]) -> tuple[Any, Any]:
        """Return what an AFFINE layer multiplies each channel by, and what it adds: numbers or (C,) arrays."""
        raise LayerError(f"type {self.type}: affine is not defined")

    def activation(self, params: Sequence[Blob]) -> tuple[Any, float]:
        """Return (slope, cap) of an ACTIVATION layer, as `atrouscaffe.ops.finish.Finish` has them."""
        raise LayerError(f"type {self.type}: activation is not defined")

    def parts(self, bottoms: Sequence[Shape]) -> Sequence[int]:
        """Return where in the top each bottom lies as one piece: elements from its begin; () for nowhere."""
        return ()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiply-adds of one forward pass (a FLOP count is twice that)."""
        return 0

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """How tops reach into bottoms along (height, width); the default is pixel by pixel."""
        return POINTWISE, POINTWISE

    # -- words that many layers need ------------------------------------------------------------

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """Return `axis` counted from the front; negative ones count from the end (CanonicalAxisIndex)."""
        if not -rank <= axis < rank:
            raise LayerError(f"{what}: expected {-rank} to {rank - 1} for a bottom with {rank} axes, got {axis}")
        return axis % rank

    def want_rank(self, shape: Shape, rank: int, what: str = "bottom[0]") -> None:
        """Raise ShapeError unless `shape` has `rank` axes."""
        if len(shape) != rank:
            raise ShapeError(f"{what}: expected {rank} axes, got shape {tuple(shape)}")

    def want_same(self, first: Shape, second: Shape, what: str) -> None:
        """Raise ShapeError unless the two shapes are equal."""
        if tuple(first) != tuple(second):
            raise ShapeError(f"{what}: expected shape {tuple(first)}, got {tuple(second)}")

    def want_count(self, first: Shape, second: Shape, what: str) -> None:
        """Raise ShapeError unless the two shapes have as many elements."""
        if math.prod(first) != math.prod(second):
            raise ShapeError(f"{what}: expected {math.prod(first)} elements (shape {tuple(first)}), "
                             f"got {math.prod(second)} (shape {tuple(second)})")


_registry: dict[str, type[Layer]] = {}
_searched = False


def register(cls: type[Layer]) -> type[Layer]:
    """Make a layer class known under its ``type``; a class decorator.

    Raises
    ------
    LayerError
        A name that is taken, or a message that cannot be declared.
    """
    if cls.__module__.partition(".")[0] != "atrouscaffe":
        _search()  # so that a plug-in cannot take the name of a layer that is not imported yet
    if not cls.type or cls.type in _registry:
        raise LayerError(f"layer type {cls.type!r}: expected a name that is not taken yet")
    if cls.message:
        declare(cls.options, cls.message, cls.number)
    _registry[cls.type] = cls
    return cls


def _search(type_name: str | None = None) -> None:
    """Import every module of this folder, once; with `type_name`, only the one of that name.

    Importing all takes a tenth of a second, which a net of few types need not wait for.
    """
    global _searched
    if _searched:
        return
    load_plugins()
    package = importlib.import_module("atrouscaffe.layers")
    for module in pkgutil.iter_modules(package.__path__):
        if type_name is None or module.name.replace("_", "") == type_name.lower():
            importlib.import_module(f"atrouscaffe.layers.{module.name}")
    _searched = type_name is None


def layer_types() -> list[str]:
    """Return the names of all layer types, sorted."""
    _search()
    return sorted(_registry)


def layer_class(type_name: str) -> type[Layer]:
    """Return the class of a layer type.

    Raises
    ------
    LayerError
        There is no such type; the message names the nearest one.
    """
    if type_name not in _registry:
        _search(type_name)
    if type_name not in _registry:
        _search()
    try:
        return _registry[type_name]
    except KeyError:
        hint = nearest(type_name, _registry, cutoff=0.5)
        raise LayerError(f"unknown layer type {type_name!r}{hint}; docs/layers.md lists all types") from None


def make_layer(spec: LayerSpec, env: Env) -> Layer:
    """Make the layer that `spec` describes; its options are checked.

    Raises
    ------
    LayerError
        An unknown type or field, or options that do not fit.
    """
    unknown = spec.fields.all_unknown()
    try:
        made = layer_class(spec.type)
    except LayerError as error:
        if unknown:
            error.message += f"; what the file says of this one: {'; '.join(unknown)}"
        raise
    if unknown:
        raise LayerError(f"expected fields that this type has, but {unknown[0]}")
    return made(spec, env)
