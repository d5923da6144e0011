"""SoftmaxWithLoss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atrouscaffe.errors import DataError, FileAccessError, FileMissingError, LayerError, ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss, normalization, normalizer
from atrouscaffe.ops.elementwise import fold
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.ops.softmax import cross_entropy, cross_entropy_grad, softmax
from atrouscaffe.runtime.blob import Blob

__all__ = ["SoftmaxWithLoss", "read_class_weights"]

MAX_WEIGHT_FILE = 1 << 20  # bytes; some 50,000 classes


def read_class_weights(path: str) -> tuple[float, ...]:
    """Read a ``weight_source``: numbers of at least 0, one a channel, separated by white space.

    Raises
    ------
    FileMissingError, FileAccessError, DataError
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_WEIGHT_FILE + 1)
    except FileNotFoundError:
        raise FileMissingError(f"weight_source: there is no file {path}") from None
    except OSError as error:
        raise FileAccessError(f"weight_source: {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_WEIGHT_FILE:
        raise DataError(f"weight_source: expected a short text of numbers, {path} has more than "
                        f"{MAX_WEIGHT_FILE} bytes")
    try:
        weights = tuple(float(word) for word in content.decode("utf-8").split())
    except ValueError:
        raise DataError(f"weight_source: expected numbers separated by white space in {Path(path).name}") from None
    if not all(0 <= weight < float("inf") for weight in weights):
        raise DataError(f"weight_source: expected finite weights of at least 0 in {Path(path).name}, got {weights}")
    return weights


@register
class SoftmaxWithLoss(Loss):
    """Cross entropy of the softmax of bottom 0 against the labels of bottom 1 (``softmax_loss_layer.cpp``).

    v1 (``softmaxloss_param``): any number of ignored labels, a file of class weights; loss and
    gradient are divided by the sum of the weights of all counted pixels. Where none counts, loss and
    gradient are 0 (the original: NaN), and the gradient at ignored pixels is 0 (the original leaves
    what an earlier pass wrote there).

    v2 and BVLC (``loss_param``): one ignored label; divided by the counted pixels (VALID, the
    default), all pixels (FULL), the items (BATCH_SIZE) or 1 (NONE). SegNet's and ENet's
    ``weight_by_label_freqs`` with ``class_weighting`` weights pixels without changing the divisor.

    A second top receives the softmax; gradients do not come back through it.
    """

    type = "SoftmaxWithLoss"
    options = "loss_param"
    tops = (1, 2)

    def setup(self) -> None:
        """Read options of both forks and the class weights."""
        old = self.spec.fields.softmaxloss_param
        self.ignore = {int(label) for label in old.ignore_label}
        if self.p.has("ignore_label"):
            self.ignore.add(int(self.p.ignore_label))
        named = self.p.has("normalization") or self.p.has("normalize")
        self.by_weight = self.env.dialect == "v1" and not named
        self.mode = normalization(self.p, "VALID")
        self.class_weights: tuple[float, ...] = ()
        if old.has("weight_source"):
            self.class_weights = read_class_weights(self.env.paths.resolve(old.weight_source, "weight_source"))
            self.by_weight = True
        elif self.p.weight_by_label_freqs:
            self.class_weights = tuple(self.p.class_weighting)
            if not self.class_weights:
                raise LayerError("loss_param.weight_by_label_freqs: expected a class_weighting for each class")

    def _axis(self, shape: Shape) -> int:
        return self.axis(self.spec.fields.softmax_param.axis, len(shape), "softmax_param.axis")

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want one label for each pixel, and a weight for each channel if there are weights."""
        outer, channels, inner = fold(bottoms[0], self._axis(bottoms[0]))
        if len(bottoms[1]) == 0 or np.prod(bottoms[1]) != outer * inner:
            raise ShapeError(f"bottom[1]: expected one label for each pixel of bottom[0] {tuple(bottoms[0])}, "
                             f"{outer * inner} in all, got shape {tuple(bottoms[1])}")
        if self.class_weights and len(self.class_weights) != channels:
            raise ShapeError(f"class weights: expected {channels}, one for each channel, got {len(self.class_weights)}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return a scalar, and the scores' shape for a second top."""
        self.check_bottoms(bottoms)
        return [(), tuple(bottoms[0])][: max(1, len(self.spec.tops))]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss, and the softmax where a second top wants it."""
        outer, channels, inner = shape = fold(bottom[0].shape, self._axis(bottom[0].shape))
        labels = read_labels(bottom[1].host(), channels, self.ignore).reshape(outer, inner)
        weights = None
        valid = float(np.count_nonzero(labels >= 0))
        if self.class_weights:
            table = np.asarray(self.class_weights, bottom[0].dtype)
            weights = np.where(labels >= 0, table[labels], 0).astype(bottom[0].dtype)
            if self.by_weight:
                valid = float(weights.sum(dtype=np.float64))
        divisor = (valid or 1.0) if self.by_weight else normalizer(self.mode, outer, inner, valid)
        labels = ctx.backend.asarray(labels)
        weights = None if weights is None else ctx.backend.asarray(weights)
        x = bottom[0].array.reshape(shape)
        top[0].array[...] = cross_entropy(x, labels, weights) / divisor
        if len(top) > 1:
            softmax(x, top[1].array.reshape(shape))
        ctx.saved.update(labels=labels, weights=weights, divisor=divisor)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write weight (softmax - [channel is the label]) / divisor, 0 at ignored pixels."""
        if ctx.propagate[0]:
            shape = fold(bottom[0].shape, self._axis(bottom[0].shape))
            cross_entropy_grad(bottom[0].array.reshape(shape), ctx.saved["labels"], ctx.saved["weights"],
                               self.weight(top) / ctx.saved["divisor"], bottom[0].grad.reshape(shape))
