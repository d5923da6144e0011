"""What a prototxt said, frozen: no arrays, no protobuf, no device.

`formats` makes these from text or binary files, always in the one modern form (type names of
BVLC Caffe, ``hole`` as the word for dilation, ``param`` messages for multipliers); `graph`,
`layers`, `net` and `solver` read them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from atrouscaffe.errors import Source

__all__ = ["DIALECTS", "TEST", "TRAIN", "Fields", "LayerSpec", "NetSpec", "ParamSpec", "Phase", "StateRule"]

DIALECTS = ("v1", "v2", "bvlc")
"""DeepLab's first fork, its second fork, and BVLC's master."""


class Phase(enum.IntEnum):
    """Caffe's phase enum, with its numbers."""

    TRAIN = 0
    TEST = 1


TRAIN = Phase.TRAIN
TEST = Phase.TEST


class Fields:
    """Frozen view of one message: attributes with the schema's defaults.

    ``fields.num_output`` is the value or the schema's default; ``fields.has("num_output")`` says
    whether the file named it. Repeated fields are tuples, enums are their names (``"MAX"``),
    messages are `Fields` (an absent one is a `Fields` of defaults), bytes are ``bytes``.

    Parameters
    ----------
    message : str
        Name of the message type, for errors, such as ``"ConvolutionParameter"``.
    values : mapping of str to object
        Fields that the file set.
    defaults : mapping of str to object
        Every field of the message with its default; shared between instances. A value that is
        callable is called to make the default (a message's default is another `Fields`).
    unknown : tuple of str, optional
        What the file set that there is no field for, a phrase each.
    """

    __slots__ = ("_defaults", "_message", "_unknown", "_values")

    def __init__(self, message: str, values: Mapping[str, Any], defaults: Mapping[str, Any],
                 unknown: tuple[str, ...] = ()) -> None:
        object.__setattr__(self, "_message", message)
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_defaults", defaults)
        object.__setattr__(self, "_unknown", unknown)

    def __getattr__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        try:
            default = self._defaults[name]
        except KeyError:
            raise AttributeError(f"{self._message} has no field {name!r}") from None
        return default() if callable(default) else default

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self._message} is read-only")

    def has(self, name: str) -> bool:
        """Tell whether the file set this field (a repeated one: at least one entry)."""
        if name not in self._defaults:
            raise AttributeError(f"{self._message} has no field {name!r}")
        return name in self._values

    def replace(self, **values: Any) -> Fields:
        """Return a copy in which these fields are set."""
        for name in values:
            if name not in self._defaults:
                raise AttributeError(f"{self._message} has no field {name!r}")
        return Fields(self._message, {**self._values, **values}, self._defaults, self._unknown)

    def all_unknown(self) -> tuple[str, ...]:
        """Return what the file set, here and in the messages inside, that there is no field for."""
        inner = (value for value in self._values.values() if isinstance(value, Fields))
        return self._unknown + tuple(phrase for fields in inner for phrase in fields.all_unknown())

    @property
    def message_name(self) -> str:
        """Name of the message type."""
        return self._message

    def __iter__(self) -> Iterator[str]:
        """Names of the fields that were set."""
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and (self._message, self._values) == (other._message, other._values)

    def __hash__(self) -> int:
        return hash((self._message, tuple(sorted(self._values, key=str))))

    def __repr__(self) -> str:
        body = ", ".join(f"{k}={v!r}" for k, v in self._values.items())
        return f"{self._message}({body})"

    def __reduce__(self) -> tuple:
        defaults = {k: (v() if callable(v) else v) for k, v in self._defaults.items()}
        return (Fields, (self._message, self._values, defaults, self._unknown))


@dataclass(frozen=True)
class ParamSpec:
    """One ``param { }`` of a layer: sharing name and multipliers (`blobs_lr`, `weight_decay` of V1)."""

    name: str = ""
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    share_mode: str = "STRICT"


@dataclass(frozen=True)
class StateRule:
    """One ``include`` or ``exclude`` rule (NetStateRule)."""

    phase: Phase | None = None
    min_level: int | None = None
    max_level: int | None = None
    stages: tuple[str, ...] = ()
    not_stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerSpec:
    """One layer in the modern form.

    Attributes
    ----------
    name, type : str
        ``type`` is the modern name, such as ``"Convolution"``.
    bottoms, tops : tuple of str
    fields : Fields
        The whole layer message; ``spec.fields.convolution_param.num_output``.
    params : tuple of ParamSpec
        As many as the file gave; missing ones default to `ParamSpec()`.
    loss_weights : tuple of float
        As many as the file gave.
    include, exclude : tuple of StateRule
    phase : Phase or None
        The layer's own ``phase`` field.
    propagate_down : tuple of bool
        As many as the file gave.
    strict_dim : bool
        V1's ``strict_dim``; False lets weights of equal count but other shape load.
    source : Source or None
    """

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    fields: Fields = field(default_factory=lambda: Fields("LayerParameter", {}, {}))
    params: tuple[ParamSpec, ...] = ()
    loss_weights: tuple[float, ...] = ()
    include: tuple[StateRule, ...] = ()
    exclude: tuple[StateRule, ...] = ()
    phase: Phase | None = None
    propagate_down: tuple[bool, ...] = ()
    strict_dim: bool = True
    source: Source | None = None

    def param(self, index: int) -> ParamSpec:
        """Return the ``param`` entry of parameter blob `index`, or the default one."""
        return self.params[index] if index < len(self.params) else ParamSpec()


@dataclass(frozen=True)
class NetSpec:
    """A whole net in the modern form; ``input`` fields have become an Input layer.

    Attributes
    ----------
    name : str
    layers : tuple of LayerSpec
        All of them, before include/exclude are applied.
    dialect : {"v1", "v2", "bvlc"}
        What layers that differ between the forks go by.
    force_backward, debug_info : bool
    level : int
        From the file's ``state``; a caller's value wins.
    stages : tuple of str
    phase : Phase or None
        From the file's ``state``.
    path : str
        File it was read from, "" for text. Paths inside are resolved against its folder.
    notes : tuple of str
        What reading decided that the file does not say, a sentence each.
    """

    name: str = ""
    layers: tuple[LayerSpec, ...] = ()
    dialect: str = "bvlc"
    force_backward: bool = False
    debug_info: bool = False
    level: int = 0
    stages: tuple[str, ...] = ()
    phase: Phase | None = None
    path: str = ""
    notes: tuple[str, ...] = ()
