"""How a net shows its layers and blobs: views of layers, dicts that explain a missing name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atrouscaffe.errors import NameNotFoundError, nearest
from atrouscaffe.layers.base import Layer
from atrouscaffe.layers.python import BlobVec

__all__ = ["LayerView", "Named"]


@dataclass(frozen=True)
class LayerView:
    """A layer as pycaffe shows it: ``type``, ``name`` and ``blobs``."""

    layer: Layer
    blobs: BlobVec

    @property
    def type(self) -> str:
        """Caffe's type name."""
        return self.layer.type

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name


class Named(OrderedDict):
    """An ordered dict whose missing keys are explained."""

    def __init__(self, what: str, hint: str, items: Iterable[tuple[str, Any]]) -> None:
        super().__init__(items)
        self.what, self.hint = what, hint

    def __missing__(self, key: str) -> Any:
        raise NameNotFoundError(f"the net has no {self.what} {key!r}{nearest(str(key), self)}{self.hint}")

    def __reduce__(self) -> tuple:
        return (Named, (self.what, self.hint, list(self.items())))
