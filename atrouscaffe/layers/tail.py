"""What a layer does for the layers after it, in nets that keep few blobs (`atrouscaffe.graph.fuse`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.ops.finish import Finish, finish_blob
from atrouscaffe.ops.keep import Keep
from atrouscaffe.runtime.blob import Blob

__all__ = ["ACTIVATION", "AFFINE", "IDENTITY", "SUM", "Tail"]

AFFINE = "affine"
"""Each channel times a number, plus a number: `Layer.affine` returns them."""
SUM = "sum"
"""The two bottoms added."""
ACTIVATION = "activation"
"""Values below 0 times a slope, none above a cap: `Layer.activation` returns both."""
IDENTITY = "identity"
"""Values as they are."""


@dataclass(frozen=True, eq=False)
class Tail:
    """The layers that another one does the work of.

    Attributes
    ----------
    affine : sequence of (Layer, parameters)
        Applied first, in this order.
    base : Blob or None
        Then added.
    activation : (Layer, parameters) or None
        Applied last.
    """

    affine: Sequence[tuple[Any, Sequence[Blob]]] = ()
    base: Blob | None = None
    act: tuple[Any, Sequence[Blob]] | None = None

    def finish(self) -> Finish:
        """Return base and activation as kernels take them."""
        slope, cap = (None, float("inf")) if self.act is None else self.act[0].activation(self.act[1])
        return Finish(slope, cap, None if self.base is None else self.base.array)

    def scale_and_shift(self, scale: Any = 1.0, shift: Any = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return what channels are multiplied by, and what is added then, float64; `scale` and `shift` come first."""
        for layer, params in self.affine:
            factor, offset = layer.affine(params)
            scale = np.asarray(scale, np.float64) * factor
            shift = np.asarray(shift, np.float64) * factor + offset
        return scale, shift

    def folded(self, params: Sequence[Blob], fold: Callable[[np.ndarray, np.ndarray], np.ndarray],
               outputs: int) -> tuple[np.ndarray, np.ndarray, Keep]:
        """Return weight and bias with the affine layers in them, and what keeps values derived from these.

        Parameters
        ----------
        params : sequence of Blob
            Weight and, where there is one, bias.
        fold : callable
            Multiplies a weight's outputs by as many numbers.
        outputs : int
        """
        beside = [*params[1:], *(blob for _, blobs in self.affine for blob in blobs)]

        def keep(key: Any, make: Callable[[], Any]) -> Any:
            return params[0].derived(("folded", id(self), key), make, beside=beside)

        def make() -> tuple[np.ndarray, np.ndarray]:
            weight = params[0].array
            scale, shift = self.scale_and_shift(1.0, params[1].array if len(params) > 1 else 0.0)
            return (fold(weight, scale).astype(weight.dtype),
                    np.array(np.broadcast_to(shift, outputs), weight.dtype))

        return *keep("weight and bias", make), keep

    def apply(self, x: np.ndarray, y: np.ndarray, scale: Any = 1.0, shift: Any = 0.0,
              base: np.ndarray | None = None) -> None:
        """Write ``(x + base) * scale + shift`` and what the layers make of it, in one pass.

        Parameters
        ----------
        x, y, base : (outer, C, inner) float32
        scale, shift : numbers or (C,) arrays
        """
        scale, shift = (np.array(np.broadcast_to(number, x.shape[1]), np.float32)
                        for number in self.scale_and_shift(scale, shift))
        finish_blob(x, y, dataclasses.replace(self.finish(), base=base), scale, shift)
