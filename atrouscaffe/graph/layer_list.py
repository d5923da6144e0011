"""What layer types there are: counts, options, what each does, and which plug-in brought it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from atrouscaffe.layers.base import Layer, layer_class, layer_types
from atrouscaffe.plugins import load_plugins

__all__ = ["LayerEntry", "layer_list"]


@dataclass(frozen=True)
class LayerEntry:
    """One layer type.

    Attributes
    ----------
    type, options : str
    bottoms, tops : str
        How many: ``1``, ``1–2``, ``1+``; ``=`` is as many tops as bottoms.
    in_place, backward : bool
        Whether the first top may be the first bottom; whether gradients pass.
    summary : str
        The first paragraph of the class's docstring.
    package : str
        The package that brought it, "" for this one.
    """

    type: str
    bottoms: str
    tops: str
    options: str
    in_place: bool
    backward: bool
    summary: str
    package: str


def _span(counts: tuple[int, int | None]) -> str:
    """Write (fewest, most) briefly."""
    low, high = counts
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}–{high}"


def layer_list() -> list[LayerEntry]:
    """Return all layer types, sorted by name."""
    return [_entry(layer_class(name)) for name in layer_types()]


def _entry(cls: type[Layer]) -> LayerEntry:
    summary = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
    tops = "=" if cls.same_tops else _span((0, cls.tops[1]) if cls.auto_tops else cls.tops)
    return LayerEntry(cls.type, _span(cls.bottoms), tops, cls.options, cls.in_place, cls.has_backward, summary,
                      _package(cls.__module__))


def _package(module: str) -> str:
    """Return name and version of the package that a layer's module is of."""
    for plugin in load_plugins():
        if f"{module}.".startswith(f"{plugin.module}.") or module.partition(".")[0] == plugin.module.partition(".")[0]:
            return f"{plugin.package} {plugin.version}"
    return "" if module.partition(".")[0] == "atrouscaffe" else module
