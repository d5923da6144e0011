"""What losses share: one scalar top, labels without gradients, the normalisation modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import ShapeError
from atrouscaffe.layers.base import GLOBAL, Layer, Reach, Shape
from atrouscaffe.runtime.backend import on_device
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import Fields

__all__ = ["Loss", "normalization", "normalizer"]


def normalization(loss_param: Fields, default: str) -> str:
    """Return FULL, VALID, BATCH_SIZE or NONE; the old flag ``normalize`` means VALID or BATCH_SIZE."""
    if loss_param.has("normalization"):
        return loss_param.normalization
    if loss_param.has("normalize"):
        return "VALID" if loss_param.normalize else "BATCH_SIZE"
    return default


def normalizer(mode: str, outer: int, inner: int, valid: float) -> float:
    """Return what a loss is divided by; never below 1, so that nothing valid gives 0 and not NaN."""
    return max(1.0, {"FULL": float(outer * inner), "VALID": valid, "BATCH_SIZE": float(outer), "NONE": 1.0}[mode])


class Loss(Layer):
    """Base of losses: a scalar top, made where none is named; only the first bottom gets a gradient."""

    bottoms = (2, 2)
    auto_tops = 1
    is_loss = True
    backward_reads = ("bottom",)

    def allows_gradient(self, bottom: int) -> bool:
        """Only predictions; labels may not."""
        return bottom == 0

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the scalar's shape, (), once `check_bottoms` is content."""
        self.check_bottoms(bottoms)
        return [()]

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Raise ShapeError unless the bottoms agree in their first axis."""
        if not bottoms[0] or not bottoms[1] or bottoms[0][0] != bottoms[1][0]:
            raise ShapeError(f"bottom[1]: expected as many items as bottom[0] {tuple(bottoms[0])}, "
                             f"got shape {tuple(bottoms[1])}")

    def check_one_label_each(self, bottoms: Sequence[Shape]) -> None:
        """Raise ShapeError unless bottom 1 has one label for each item of bottom 0."""
        self.want_count((bottoms[0][0],), bottoms[1], "bottom[1]")

    @staticmethod
    def weight(top: Sequence[Blob]) -> Any:
        """Return the gradient at the loss itself: its loss weight, or what somebody wrote there.

        A number, or an array of shape () on the device, for which nobody need wait.
        """
        grad = top[0].grad
        return grad.reshape(()) if on_device(grad) else float(grad.reshape(-1)[0])

    @staticmethod
    def items(array: Any) -> Any:
        """View an array as (items, the rest)."""
        return array.reshape(array.shape[0], -1)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
